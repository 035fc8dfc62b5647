// Package services provides the functions' backing services: Postgres, Redis and Kafka. Each is either the one that the
// environment names, or an embedded default.
package services

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// Options says where data is stored and which services exist already.
type Options struct {
	Dir     string // data folder; created if absent
	Durable bool   // fsync on; off for tests, which throw their data away
	Say     func(string)
	Install bool   // may install Debian packages
	Broker  string // that is started: Embedded, Apache or ApacheSecure
	Cache   string // folder of downloads, which is kept
	Pooler  bool   // put PgBouncer in front of the Postgres that is started

	Addresses // of existing services; empty: start one
}

// Addresses are where services are. They do not change while the services run.
type Addresses struct {
	DatabaseURL string            // of the owner of the tables
	Users       map[string]string // URLs of the functions' own users; a function without one uses DatabaseURL
	RedisURL    string
	Kafka       kafkaclient.Config
}

// Database returns the URL of a function.
func (a Addresses) Database(function string) string { return cmp.Or(a.Users[function], a.DatabaseURL) }

// Environ returns the variables that name the services.
func (a Addresses) Environ() []string {
	return append(a.Kafka.Environ(), "DATABASE_URL="+a.DatabaseURL, "REDIS_URL="+a.RedisURL)
}

// Start starts the services that o does not name, and returns once all of them answer. stop stops those, Postgres first, and kills
// what is still running when its context ends. After an error nothing is left running.
func Start(ctx context.Context, o Options) (a Addresses, stop func(context.Context), err error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { //nolint:gosec // Postgres' user must be able to enter it
		return a, nil, fmt.Errorf("create data folder: %w", err)
	}
	var stops []func(context.Context)
	stop = func(ctx context.Context) {
		for _, stop := range stops {
			stop(ctx)
		}
	}
	a = o.Addresses
	for _, s := range []struct {
		address *string
		given   string
		start   starter
	}{
		{&a.DatabaseURL, "postgres: the server of DATABASE_URL", startPostgres},
		{&a.RedisURL, "redis: the server of REDIS_URL", startRedis},
	} {
		if *s.address != "" {
			o.Say(s.given)
			continue
		}
		address, end, err := s.start(ctx, o)
		if end != nil {
			stops = append(stops, end)
		}
		if err != nil {
			stop(context.WithoutCancel(ctx))
			return a, nil, err
		}
		*s.address = address
	}
	if o.DatabaseURL == "" {
		end, err := a.addUsers(ctx, o)
		if end != nil {
			stops = append(stops, end)
		}
		if err != nil {
			stop(context.WithoutCancel(ctx))
			return a, nil, err
		}
	}
	if a.Kafka.Servers() != "" {
		o.Say("kafka: the brokers of KAFKA_BOOTSTRAP_SERVERS")
	} else {
		brokers, end, err := startKafka(ctx, o)
		if end != nil {
			stops = append(stops, end)
		}
		if err != nil {
			stop(context.WithoutCancel(ctx))
			return a, nil, err
		}
		a.Kafka = brokers
	}
	return a, stop, nil
}

// starter starts a service. It also returns stop with an error, unless nothing of the service runs.
type starter func(ctx context.Context, o Options) (address string, stop func(context.Context), err error)

// CreateTopics creates the pipeline's topics. Existing ones are left unchanged.
func CreateTopics(ctx context.Context, brokers kafkaclient.Config, topics priceevent.Topics) error {
	admin, err := kafka.NewAdminClient(brokers.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	if err != nil {
		return fmt.Errorf("connect to kafka: %w", err)
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	// compression.type=uncompressed makes a broker check max.message.bytes after decompression; the embedded broker accepts the setting,
	// but checks the size as it arrives.
	results, err := admin.CreateTopics(ctx, []kafka.TopicSpecification{
		{Topic: topics.Events, NumPartitions: 12, ReplicationFactor: 1, Config: map[string]string{
			"max.message.bytes": "2097152", "compression.type": "uncompressed",
		}},
		{Topic: topics.DeadLetters, NumPartitions: 12, ReplicationFactor: 1, Config: map[string]string{
			"max.message.bytes": "2097152", "compression.type": "uncompressed", "retention.ms": "-1", // dead letters are kept forever
		}},
	})
	if err != nil {
		return fmt.Errorf("create topics at KAFKA_BOOTSTRAP_SERVERS: %w", err)
	}
	for _, r := range results {
		if code := r.Error.Code(); code != kafka.ErrNoError && code != kafka.ErrTopicAlreadyExists {
			return fmt.Errorf("create topic %s: %w", r.Topic, r.Error)
		}
	}
	return nil
}

// await calls ready until it succeeds, and returns its last error after wait.
func await(ctx context.Context, wait time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// logFile opens the log of a service in the data folder.
func logFile(o Options, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(o.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in the data folder
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	return f, nil
}

// tail returns the last lines of a log, to show them in an error.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path) //nolint:gosec // our own log
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}

// KeptSecret returns the secret that a file keeps. The first time, it generates one.
func KeptSecret(file string) (string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // our own file
	if text := strings.TrimSpace(string(b)); err == nil && text != "" {
		return text, nil
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails (crypto/rand since Go 1.24)
	text := hex.EncodeToString(raw)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("store secret: %w", err)
	}
	return text, nil
}

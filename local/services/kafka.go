package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"

	"marketdata/local/apachekafka"
	"marketdata/shared/kafkaclient"
)

// The brokers that can be started.
const (
	Embedded     = "embedded"
	Apache       = "apache"        // Apache Kafka, without authentication
	ApacheSecure = "apache-secure" // Apache Kafka, with SASL over TLS
)

// startKafka starts the broker of the options.
func startKafka(ctx context.Context, o Options) (kafkaclient.Config, func(context.Context), error) {
	if o.Broker != Apache && o.Broker != ApacheSecure {
		return startEmbedded(o)
	}
	broker, err := apachekafka.Start(ctx, apachekafka.Options{Dir: filepath.Join(o.Dir, "apache-kafka"), Cache: o.Cache, Install: o.Install, Say: o.Say})
	if err != nil {
		return kafkaclient.Config{}, nil, err
	}
	if o.Broker == ApacheSecure {
		return broker.SASL("SCRAM-SHA-512", "marketdata"), broker.Stop, nil
	}
	return broker.Plain, broker.Stop, nil
}

// startEmbedded starts an in-process broker with a data folder. It has no replication, so it is for development only. Acknowledged
// records survive a crash of this process; they are not synced to disk, which is Kafka's default, too.
func startEmbedded(o Options) (brokers kafkaclient.Config, stop func(context.Context), err error) {
	dir := filepath.Join(o.Dir, "kafka")
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(dir)}
	// Reuse the port of the last start if it is free, so that clients in other shells reconnect.
	portFile := filepath.Join(o.Dir, "kafka.port")
	cluster, err := tryPort(portFile, opts)
	if err != nil {
		if cluster, err = kfake.NewCluster(opts...); err != nil {
			return brokers, nil, fmt.Errorf("start kafka: %w", err)
		}
	}
	stop = func(context.Context) { cluster.Close() }
	servers := strings.Join(cluster.ListenAddrs(), ",")
	_, port, _ := strings.Cut(servers, ":")
	if err := os.WriteFile(portFile, []byte(port), 0o600); err != nil {
		return brokers, stop, fmt.Errorf("store kafka's port: %w", err)
	}
	o.Say("kafka: embedded broker in this process (kfake, no replication) on " + servers + ", data in " + dir)
	return kafkaclient.At(servers), stop, nil
}

func tryPort(portFile string, opts []kfake.Opt) (*kfake.Cluster, error) {
	text, err := os.ReadFile(portFile) //nolint:gosec // our own file
	if err != nil {
		return nil, fmt.Errorf("read port: %w", err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read port: %w", err)
	}
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.Ports(port)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return cluster, nil
}

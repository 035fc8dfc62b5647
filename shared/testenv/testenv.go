// Package testenv provides tests with real services: a Postgres database, a Redis prefix and Kafka topics of their own. It is for
// tests only. The servers are those of DATABASE_URL, REDIS_URL and KAFKA_BOOTSTRAP_SERVERS. If one is not set, the test fails
// with the remedy, so that a suite without services never passes.
package testenv

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/freeport"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/migrations"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
)

// FreePort returns a free loopback port, for a process that the test starts.
func FreePort(tb testing.TB) int {
	tb.Helper()
	port, err := freeport.Find(tb.Context())
	require.NoError(tb, err)
	return port
}

// PostgresURL creates a migrated database for this test, which is dropped at its end, and returns the URL. Databases are cloned
// from a template that is migrated once for each version of the schema.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	server := need(tb, "DATABASE_URL")
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server)
	require.NoError(tb, err)
	defer conn.Close(ctx) //nolint:errcheck // nothing depends on it
	template, err := ensureTemplate(ctx, conn, server)
	require.NoError(tb, err)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	// Only one session may clone a template at a time, over all test processes.
	_, err = conn.Exec(ctx, "select pg_advisory_lock(7306)")
	require.NoError(tb, err)
	_, err = conn.Exec(ctx, "create database "+name+" template "+template+" strategy=file_copy")
	require.NoError(tb, err)
	_, err = conn.Exec(ctx, "select pg_advisory_unlock(7306)")
	require.NoError(tb, err)
	tb.Cleanup(func() {
		conn, err := pgx.Connect(ctx, server)
		require.NoError(tb, err)
		defer conn.Close(ctx) //nolint:errcheck // nothing depends on it
		_, err = conn.Exec(ctx, "drop database "+name+" with (force)")
		require.NoError(tb, err)
	})
	return withDatabase(tb, server, name)
}

// Postgres is [PostgresURL] with a pool that is closed at the end.
func Postgres(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool, err := postgres.Open(context.Background(), PostgresURL(tb))
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

var templateMutex sync.Mutex

// ensureTemplate migrates a database named after the hash of the schema and the grants, once per server.
func ensureTemplate(ctx context.Context, conn *pgx.Conn, server string) (string, error) {
	templateMutex.Lock()
	defer templateMutex.Unlock()
	sum := sha256.New()
	for _, files := range []fs.FS{migrations.FS, roles.FS} {
		err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	name := fmt.Sprintf("template_%x", sum.Sum(nil)[:8])
	if _, err := conn.Exec(ctx, "select pg_advisory_lock(7305)"); err != nil {
		return "", err
	}
	defer conn.Exec(ctx, "select pg_advisory_unlock(7305)") //nolint:errcheck // the connection's end unlocks too
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&exists); err != nil || exists {
		return name, err
	}
	building := name + "_building" // renamed when complete: a killed test run leaves no partial template
	for _, q := range []string{"drop database if exists " + building, "create database " + building} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return "", err
		}
	}
	url, err := replaceDatabase(server, building)
	if err != nil {
		return "", err
	}
	if err := migrate.Up(ctx, url); err != nil {
		return "", err
	}
	if _, err := roles.Grant(ctx, url); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "alter database "+building+" rename to "+name)
	return name, err
}

func withDatabase(tb testing.TB, server, name string) string {
	tb.Helper()
	url, err := replaceDatabase(server, name)
	require.NoError(tb, err)
	return url
}

// Redis returns a client of the shared server and a key prefix for this test. Keys with it are deleted at the test's end.
func Redis(tb testing.TB) (client *redis.Client, prefix string) {
	tb.Helper()
	options, err := redis.ParseURL(need(tb, "REDIS_URL"))
	require.NoError(tb, err)
	client = redis.NewClient(options)
	prefix = "test:" + uuid.NewString() + ":"
	tb.Cleanup(func() {
		ctx := context.Background()
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			require.NoError(tb, client.Del(ctx, keys.Val()).Err())
		}
		require.NoError(tb, client.Close())
	})
	return client, prefix
}

// Kafka returns the settings of the brokers: those of the KAFKA_ variables.
func Kafka(tb testing.TB) kafkaclient.Config {
	tb.Helper()
	need(tb, "KAFKA_BOOTSTRAP_SERVERS")
	var c kafkaclient.Config
	c.Load()
	require.NoError(tb, c.Validate())
	return c
}

// Topic creates a topic for this test, which is deleted at its end.
func Topic(tb testing.TB, brokers kafkaclient.Config, partitions int) string {
	tb.Helper()
	admin, err := kafka.NewAdminClient(brokers.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(tb, err)
	name := "test-" + uuid.NewString()
	results, err := admin.CreateTopics(context.Background(), []kafka.TopicSpecification{{
		Topic: name, NumPartitions: partitions, ReplicationFactor: 1, Config: map[string]string{"max.message.bytes": "2097152"},
	}})
	require.NoError(tb, err)
	require.Equal(tb, kafka.ErrNoError, results[0].Error.Code())
	require.Eventually(tb, func() bool { // a broker creates a topic before it tells clients of it
		m, err := admin.GetMetadata(&name, false, 10_000)
		return err == nil && m.Topics[name].Error.Code() == kafka.ErrNoError && len(m.Topics[name].Partitions) == partitions
	}, 30*time.Second, 10*time.Millisecond)
	tb.Cleanup(func() {
		_, err := admin.DeleteTopics(context.Background(), []string{name})
		require.NoError(tb, err)
		admin.Close()
	})
	return name
}

// Topics creates the pipeline's topics for this test, which are deleted at its end.
func Topics(tb testing.TB, brokers kafkaclient.Config) priceevent.Topics {
	tb.Helper()
	return priceevent.Topics{Events: Topic(tb, brokers, 12), DeadLetters: Topic(tb, brokers, 12)}
}

// DeleteGroups deletes the consumer groups whose names begin with a prefix. It waits for members that were killed: the broker keeps them
// until their sessions end.
func DeleteGroups(tb testing.TB, brokers kafkaclient.Config, prefix string) {
	tb.Helper()
	admin, err := kafka.NewAdminClient(brokers.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(tb, err)
	defer admin.Close()
	require.Eventually(tb, func() bool {
		all, err := admin.ListConsumerGroups(context.Background())
		require.NoError(tb, err)
		var groups []string
		for _, group := range all.Valid {
			if strings.HasPrefix(group.GroupID, prefix) {
				groups = append(groups, group.GroupID)
			}
		}
		if len(groups) > 0 {
			_, err = admin.DeleteConsumerGroups(context.Background(), groups)
			require.NoError(tb, err)
		}
		return len(groups) == 0
	}, 30*time.Second, 100*time.Millisecond, "consumer groups are left on the broker")
}

// EachRecord reads a topic from its beginning, in offset order within each partition, until see returns false. It fails the test if
// there are no more records.
func EachRecord(tb testing.TB, brokers kafkaclient.Config, topic string, see func(value []byte) (more bool)) {
	tb.Helper()
	consumer := newConsumer(tb, brokers, topic)
	defer consumer.Close() //nolint:errcheck // nothing depends on it
	for {
		m, err := consumer.ReadMessage(20_000_000_000) // 20 s, reached only if the test fails
		require.NoError(tb, err, "the topic has no more records")
		if !see(m.Value) {
			return
		}
	}
}

// Records reads n records of a topic from its beginning, in offset order within each partition.
func Records(tb testing.TB, brokers kafkaclient.Config, topic string, n int) []*kafka.Message {
	tb.Helper()
	consumer := newConsumer(tb, brokers, topic)
	defer consumer.Close() //nolint:errcheck // nothing depends on it
	var out []*kafka.Message
	for len(out) < n {
		m, err := consumer.ReadMessage(20_000_000_000) // 20 s, reached only if the test fails
		require.NoError(tb, err, "%d of %d records", len(out), n)
		out = append(out, m)
	}
	return out
}

func newConsumer(tb testing.TB, brokers kafkaclient.Config, topic string) *kafka.Consumer {
	tb.Helper()
	consumer, err := kafka.NewConsumer(brokers.Map(kafka.ConfigMap{
		"group.id": uuid.NewString(), "enable.auto.commit": false, "enable.metrics.push": false, "fetch.message.max.bytes": 4 << 20,
	}))
	require.NoError(tb, err)
	metadata, err := consumer.GetMetadata(&topic, false, 20_000)
	require.NoError(tb, err)
	var all []kafka.TopicPartition
	for _, p := range metadata.Topics[topic].Partitions {
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: p.ID, Offset: kafka.OffsetBeginning})
	}
	require.NoError(tb, consumer.Assign(all)) // without a group, which would outlive the test
	return consumer
}

//go:build integration

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// givenBroker returns the broker that all stacks share: the one of the KAFKA_ variables, unless 'local exec' has started an embedded one.
// Then each stack starts its own, which takes milliseconds and is stopped with the stack.
func givenBroker() (kafkaclient.Config, bool) {
	var c kafkaclient.Config
	c.Load()
	return c, c.Servers() != "" && os.Getenv("KAFKA") != "embedded" //nolint:forbidigo // where tests find their services
}

// namesIn returns the variables by which topics and consumer groups of the stack in a folder have names of their own, which all begin with
// that of the folder.
func namesIn(dir string) []string {
	prefix := filepath.Base(dir) + "."
	topics := priceevent.Topics{Events: prefix + "prices", DeadLetters: prefix + "dead-letters"}
	return append(topics.Environ(), "CONSUMER_GROUP_PREFIX="+prefix)
}

// leaveNothing deletes topics and consumer groups of the stack in a folder from the broker that it was given.
func leaveNothing(t *testing.T, broker kafkaclient.Config, dir string) {
	t.Helper()
	admin, err := kafka.NewAdminClient(broker.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(t, err)
	defer admin.Close()
	prefix := filepath.Base(dir) + "."
	all, err := admin.GetMetadata(nil, true, 20_000)
	require.NoError(t, err)
	var topics []string
	for topic := range all.Topics {
		if strings.HasPrefix(topic, prefix) {
			topics = append(topics, topic)
		}
	}
	if len(topics) > 0 {
		_, err = admin.DeleteTopics(context.WithoutCancel(t.Context()), topics)
		require.NoError(t, err)
	}
	testenv.DeleteGroups(t, broker, prefix)
}

// franz returns the settings of a client of franz-go that correspond to those of librdkafka.
func franz(t *testing.T, c kafkaclient.Config) []kgo.Opt {
	t.Helper()
	property := func(name string) string { return string(c.Properties[name]) }
	opts := []kgo.Opt{kgo.SeedBrokers(strings.Split(c.Servers(), ",")...)}
	protocol := strings.ToUpper(property("security.protocol"))
	if strings.HasSuffix(protocol, "SSL") {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if pem := property("ssl.ca.pem"); pem != "" {
			config.RootCAs = x509.NewCertPool()
			require.True(t, config.RootCAs.AppendCertsFromPEM([]byte(pem)))
		}
		opts = append(opts, kgo.DialTLSConfig(config))
	}
	if strings.HasPrefix(protocol, "SASL") {
		user, password, mechanism := property("sasl.username"), property("sasl.password"), property("sasl.mechanism")
		mechanisms := map[string]sasl.Mechanism{
			"PLAIN":         plain.Auth{User: user, Pass: password}.AsMechanism(),
			"SCRAM-SHA-256": scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
			"SCRAM-SHA-512": scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
		}
		require.Contains(t, mechanisms, mechanism, "the tests' own client knows no other KAFKA_SASL_MECHANISM")
		opts = append(opts, kgo.SASL(mechanisms[mechanism]))
	}
	return opts
}

// records returns the records that are in a topic of the stack.
func (s *stack) records(t *testing.T, topic string) (all []*kafka.Message) {
	t.Helper()
	c, err := kafka.NewConsumer(s.kafka().Map(kafka.ConfigMap{
		"group.id": "unused", "enable.auto.commit": false, "enable.metrics.push": false, "fetch.message.max.bytes": 4 << 20,
	}))
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // only reads
	metadata, err := c.GetMetadata(&topic, false, 20_000)
	require.NoError(t, err)
	var from []kafka.TopicPartition
	var left int64
	for _, p := range metadata.Topics[topic].Partitions {
		low, high, err := c.QueryWatermarkOffsets(topic, p.ID, 20_000)
		require.NoError(t, err)
		from = append(from, kafka.TopicPartition{Topic: &topic, Partition: p.ID, Offset: kafka.Offset(low)})
		left += high - low
	}
	require.NoError(t, c.Assign(from))
	for ; left > 0; left-- {
		m, err := c.ReadMessage(20 * time.Second)
		require.NoError(t, err)
		all = append(all, m)
	}
	return all
}

// countsEveryPrice compares the stored prices, the published events and the resulting points.
func (s *stack) countsEveryPrice(t *testing.T) {
	t.Helper()
	published := map[string]bool{}
	newest := map[string]string{} // raw response by point: of several in one second, the greatest ID counts
	for _, m := range s.records(t, s.topics().Events) {
		var e struct {
			Symbol, Source, Timestamp string
			ID                        string `json:"raw_response_id"`
		}
		require.NoError(t, json.Unmarshal(m.Value, &e))
		published[e.ID] = true
		at, err := time.Parse(time.RFC3339, e.Timestamp)
		require.NoError(t, err)
		point := e.Symbol + " " + e.Source + " " + at.UTC().Format(time.RFC3339)
		newest[point] = max(newest[point], e.ID)
	}
	stored := s.rows(t, "select id::text from raw_responses")
	require.Greater(t, len(stored), 6)
	for _, id := range stored {
		require.True(t, published[id], "stored but not published: %s", id)
	}
	var want []string
	for point, id := range newest {
		want = append(want, point+" "+id)
	}
	q := `select concat_ws(' ', symbol, provider, to_char(observed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), raw_response_id) from price_points`
	s.eventually(t, []string{fmt.Sprint(len(want))}, "select count(*)::text from price_points")
	require.ElementsMatch(t, want, s.rows(t, q))
	require.Empty(t, s.rows(t, "select code from dead_letters"))
}

// broker is a Kafka broker of the test's own, which it can stall, stop and restart with its records. It is an embedded one whatever broker
// the tests are given: no other drops a request on demand.
type broker struct {
	dir     string
	port    int
	cluster *kfake.Cluster
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	t.Log("on an embedded broker of its own, which it stalls and stops")
	b := &broker{dir: t.TempDir(), port: testenv.FreePort(t)}
	b.start(t)
	t.Cleanup(func() { b.cluster.Close() })
	return b
}

func (b *broker) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

func (b *broker) start(t *testing.T) {
	t.Helper()
	var err error
	// The port of the previous cluster may not be free at once.
	require.Eventually(t, func() bool {
		b.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(b.port), kfake.DataDir(b.dir))
		return err == nil
	}, 5*time.Second, 20*time.Millisecond)
}

// swallow drops produce requests without a response, as a broken network would. Each of them sends to the channel.
func (b *broker) swallow() (seen <-chan struct{}, stop func()) {
	c, done := make(chan struct{}, 1000), make(chan struct{})
	b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-done:
			b.cluster.DropControl()
			return nil, nil, false
		default:
		}
		b.cluster.KeepControl()
		c <- struct{}{}
		return nil, nil, true
	})
	return c, func() { close(done) }
}

// delay holds produce requests until goOn is called. Each of them sends to the channel.
func (b *broker) delay() (seen <-chan struct{}, goOn func()) {
	c, done := make(chan struct{}, 1000), make(chan struct{})
	b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-done:
			b.cluster.DropControl()
		default:
			b.cluster.KeepControl()
			c <- struct{}{}
			b.cluster.SleepControl(func() { <-done })
		}
		return nil, nil, false
	})
	return c, func() { close(done) }
}

// length returns the number of records in a topic.
func (b *broker) length(topic string) (n int64) {
	for _, p := range b.cluster.PartitionInfos(topic) {
		n += p.HighWatermark
	}
	return n
}

//go:build integration

package kafkaclient_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

// fill writes n records to each partition; a record's value is its offset.
func fill(t *testing.T, brokers kafkaclient.Config, topic string, partitions, n int) {
	t.Helper()
	p, err := kafka.NewProducer(brokers.Map(kafka.ConfigMap{"acks": "all", "linger.ms": 5, "enable.metrics.push": false}))
	require.NoError(t, err)
	defer p.Close()
	done := make(chan kafka.Event, partitions*n)
	for i := range n {
		for partition := range partitions {
			err := p.Produce(&kafka.Message{
				TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: int32(partition)}, Value: append([]byte(strconv.Itoa(i)), bytes.Repeat([]byte{' '}, 300)...),
				Headers: []kafka.Header{{Key: "dlq-code", Value: []byte("invalid_price")}},
			}, done)
			require.NoError(t, err)
		}
	}
	for range partitions * n {
		m, ok := (<-done).(*kafka.Message)
		require.True(t, ok)
		require.NoError(t, m.TopicPartition.Error)
	}
}

func reader(t *testing.T, brokers kafkaclient.Config) *kafkaclient.Reader {
	t.Helper()
	r := kafkaclient.NewReader(brokers, slog.New(slog.DiscardHandler))
	t.Cleanup(r.Close)
	return r
}

// readAll reads every step-th record of each partition, 100 at a time, roughly in offset order, as a source delivers them.
func readAll(t *testing.T, r *kafkaclient.Reader, topic string, partitions, n, step int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var next atomic.Int64
	var wrong atomic.Value
	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() {
			for {
				i := int(next.Add(1)-1) * step
				partition, offset := i/step%partitions, i/partitions/step*step
				if offset >= n {
					return
				}
				got, err := r.Read(ctx, kafkaclient.Place{Topic: topic, Partition: int32(partition), Offset: int64(offset)})
				if want := strconv.Itoa(offset); err != nil || string(bytes.TrimSpace(got.Value)) != want || int(got.Partition) != partition {
					wrong.Store(fmt.Sprint(partition, offset, err, string(got.Value)))
					return
				}
			}
		})
	}
	readers.Wait()
	require.Nil(t, wrong.Load())
}

// With a fetch per record, this would take an hour.
func TestManyReadsShareFetches(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	topic := testenv.Topic(t, brokers, 4)
	fill(t, brokers, topic, 4, 10_000)
	for _, step := range []int{1, 97} {
		began := time.Now()
		readAll(t, reader(t, brokers), topic, 4, 10_000, step)
		t.Log("every", step, "of 40,000 records:", time.Since(began))
	}
}

func TestNullDiffersFromEmpty(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	topic := testenv.Topic(t, brokers, 1)
	p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	for _, want := range []kafkaclient.Record{
		{Topic: topic, Headers: []kafkaclient.Header{{Name: "a"}, {Name: "a", Value: []byte{}}}},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
	} {
		require.NoError(t, p.Produce(t.Context(), want))
	}
	r := reader(t, brokers)
	got, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic})
	require.NoError(t, err)
	require.Nil(t, got.Key)
	require.Nil(t, got.Value)
	require.Equal(t, []kafkaclient.Header{{Name: "a"}, {Name: "a", Value: []byte{}}}, got.Headers)
	got, err = r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: 1})
	require.NoError(t, err)
	require.Equal(t, []byte{}, got.Key)
	require.Equal(t, []byte{}, got.Value)
}

func TestExpiredRecordsAreGone(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	topic := testenv.Topic(t, brokers, 1)
	fill(t, brokers, topic, 1, 100)
	admin, err := kafka.NewAdminClient(brokers.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(t, err)
	defer admin.Close()
	_, err = admin.DeleteRecords(t.Context(), []kafka.TopicPartition{{Topic: &topic, Partition: 0, Offset: 50}})
	require.NoError(t, err)
	r := reader(t, brokers)
	began := time.Now()
	for _, offset := range []int64{0, 49, 100, 10_000} {
		_, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: offset})
		require.Equal(t, "record_gone", fault.CodeOf(err), "%d", offset)
	}
	for range 1000 {
		_, err = r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: 7})
		require.Equal(t, "record_gone", fault.CodeOf(err))
	}
	require.Less(t, time.Since(began), 5*time.Second, "a missing record delays no other")
	got, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: 50})
	require.NoError(t, err)
	require.Equal(t, "50", string(bytes.TrimSpace(got.Value)))
	// A record that is written while the reader is at the end of its partition is found.
	p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	for offset := 100; offset < 130; offset++ {
		require.NoError(t, p.Produce(t.Context(), kafkaclient.Record{Topic: topic, Value: []byte("x")}))
		_, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: int64(offset)})
		require.NoError(t, err, "%d", offset)
	}
}

// A broker that does not answer delays its own partitions only, and Check ends with its context.
func TestHangingBrokerDelaysNoOther(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(2, "t"))
	require.NoError(t, err)
	defer cluster.Close()
	brokers := kafkaclient.At(cluster.ListenAddrs()[0] + "," + cluster.ListenAddrs()[1])
	stuck, healthy := int32(0), int32(1)
	const hangingBroker, healthyBroker = 0, 1
	require.NoError(t, cluster.MoveTopicPartition("t", stuck, hangingBroker))
	require.NoError(t, cluster.MoveTopicPartition("t", healthy, healthyBroker))
	fill(t, brokers, "t", 2, 10)
	r := reader(t, brokers)
	require.NoError(t, r.Check("t")(t.Context()))
	release := make(chan struct{})
	defer close(release)
	hanging := make(chan struct{})
	var once sync.Once
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if cluster.CurrentNode() == hangingBroker {
			cluster.SleepControl(func() { once.Do(func() { close(hanging) }); <-release })
		}
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := r.Read(ctx, kafkaclient.Place{Topic: "t", Partition: stuck, Offset: 3})
		failed <- err
	}()
	<-hanging
	began := time.Now()
	_, err = r.Read(t.Context(), kafkaclient.Place{Topic: "t", Partition: healthy, Offset: 3})
	require.NoError(t, err)
	require.Less(t, time.Since(began), time.Second)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_ = r.Check("t")(short) // only the time counts
	require.Less(t, time.Since(began), 2*time.Second)
	cancel()
	require.Equal(t, "broker_unavailable", fault.CodeOf(<-failed))
}

package kafkaclient_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"marketdata/shared/kafkaclient"
)

// A record is acknowledged once all in-sync replicas have it, and numbered, so that a broker that gets it twice keeps it once.
func TestRecordsAreOnAllReplicasOnce(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "prices"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	requests := make(chan *kmsg.ProduceRequest, 1)
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		requests <- r.(*kmsg.ProduceRequest) //nolint:forcetypeassert // by its key
		return nil, nil, false
	})
	p := kafkaclient.NewProducer(kafkaclient.At(strings.Join(cluster.ListenAddrs(), ",")), slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	require.NoError(t, p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte("v")}))
	r := <-requests
	require.EqualValues(t, -1, r.Acks, "all")
	var batch kmsg.RecordBatch
	require.NoError(t, batch.ReadFrom(r.Topics[0].Partitions[0].Records))
	require.GreaterOrEqual(t, batch.ProducerID, int64(0))
}

// A broker that becomes the leader of a partition refuses the first request of a producer, and would accept one that is behind it.
func TestARefusedRecordIsNotLostBehindALaterOne(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "prices"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	broker := strings.Join(cluster.ListenAddrs(), ",")
	produce := func(p *kafkaclient.Producer, value string) error {
		return p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte(value)})
	}
	older := kafkaclient.NewProducer(kafkaclient.At(broker), slog.New(slog.DiscardHandler))
	defer older.Close(time.Second)
	require.NoError(t, produce(older, "older")) // on a partition without any record, the first one must have the number 0

	var requests atomic.Int64
	arrived := make(chan struct{})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if requests.Add(1) == 1 {
			close(arrived)
			cluster.SleepControl(func() { <-time.After(500 * time.Millisecond) }) // a client that may send more does
		}
		return nil, nil, false
	})
	p := kafkaclient.NewProducer(kafkaclient.At(broker), slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	first := make(chan error, 1)
	go func() { first <- produce(p, "first") }()
	<-arrived
	require.NoError(t, produce(p, "second"))
	require.NoError(t, <-first)

	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("prices"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var there []string
	for len(there) < 3 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "%q are there, three were acknowledged", there)
		fetches.EachRecord(func(r *kgo.Record) { there = append(there, string(r.Value)) })
	}
	require.Equal(t, []string{"older", "first", "second"}, there)
}

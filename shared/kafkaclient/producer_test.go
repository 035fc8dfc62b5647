package kafkaclient_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
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

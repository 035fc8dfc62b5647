//go:build integration

package kafkaclient_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

// A cold start waits for the first /readyz response, which waits for the first metadata.
func TestFirstCheckIsQuick(t *testing.T) {
	t.Parallel()
	brokers, limit := testenv.Kafka(t), 30*time.Millisecond
	topic := testenv.Topic(t, brokers, 12)
	if len(brokers.Properties) > 1 {
		limit = time.Second // handshakes of TLS and SASL, which hash a password many times
	}
	for name, check := range map[string]func() (func(context.Context) error, func()){
		"producer": func() (func(context.Context) error, func()) {
			p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
			return p.Check(topic), func() { p.Close(time.Second) }
		},
		"reader": func() (func(context.Context) error, func()) {
			r := kafkaclient.NewReader(brokers, slog.New(slog.DiscardHandler))
			return r.Check(topic), r.Close
		},
	} {
		best := time.Hour // the best of several: the machine may be busy
		for range 10 {
			first, end := check()
			began := time.Now()
			require.NoError(t, first(t.Context()), name)
			best = min(best, time.Since(began))
			end()
		}
		require.Less(t, best, limit, name)
	}
}

func TestOpenProducerIsSmall(t *testing.T) { //nolint:paralleltest // measures what the process allocates
	brokers := testenv.Kafka(t)
	topic := testenv.Topic(t, brokers, 12)
	p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, p.Check(topic)(t.Context()))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes")
}

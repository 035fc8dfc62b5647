//go:build apache

package apachekafka_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/local/apachekafka"
	"marketdata/shared/kafkaclient"
)

// The real thing takes our clients by every mechanism, and refuses a user who may do nothing.
func TestEveryListener(t *testing.T) {
	t.Parallel()
	cache, err := filepath.Abs("../../.local/cache")
	require.NoError(t, err)
	b, err := apachekafka.Start(t.Context(), apachekafka.Options{
		Dir: t.TempDir(), Cache: cache, Say: func(s string) { t.Log(s) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { b.Stop(context.WithoutCancel(t.Context())) })
	admin, err := kafka.NewAdminClient(b.Plain.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(t, err)
	defer admin.Close()
	_, err = admin.CreateTopics(t.Context(), []kafka.TopicSpecification{{Topic: "prices", NumPartitions: 1, ReplicationFactor: 1}})
	require.NoError(t, err)
	silent := slog.New(slog.DiscardHandler)
	for name, config := range map[string]kafkaclient.Config{
		"plain": b.Plain, "PLAIN": b.SASL("PLAIN", "marketdata"), "SCRAM-SHA-256": b.SASL("SCRAM-SHA-256", "marketdata"),
		"SCRAM-SHA-512": b.SASL("SCRAM-SHA-512", "marketdata"), "mutual TLS": b.MutualTLS(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, config.Validate())
			p := kafkaclient.NewProducer(config, silent)
			defer p.Close(time.Second)
			require.NoError(t, p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte(name)}))
		})
	}
	for name, row := range map[string]struct {
		config kafkaclient.Config
		want   string
	}{
		"stranger": {b.SASL("SCRAM-SHA-512", "stranger"), "authorization failed"}, "unknown user": {b.SASL("PLAIN", "nobody"), "authentication"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := kafkaclient.NewProducer(row.config, silent)
			defer p.Close(0)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			require.ErrorContains(t, p.Check("prices")(ctx), row.want)
		})
	}
}

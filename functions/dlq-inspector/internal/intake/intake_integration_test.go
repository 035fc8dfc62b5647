//go:build integration

package intake_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

// A delivery whose record cannot be read is not stored without it: the error makes the platform redeliver it.
func TestBrokerTroubleIs503(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	away := kafkaclient.NewReader(kafkaclient.At("127.0.0.1:1"), slog.New(slog.DiscardHandler))
	defer away.Close()
	in := intake.New(intake.Config{Store: store.New(pool), Records: away, Topic: "dead-letters", Topics: []string{"events"}, Now: time.Now})
	defer in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	h := http.Header{"Ce-Kafkatopic": {"dead-letters"}, "Ce-Knativekafkapartition": {"0"}, "Ce-Knativekafkaoffset": {"0"}}
	require.Error(t, in.Receive(ctx, ingress.Delivery{Header: h, Body: lettertest.Poison}))
	require.Zero(t, lettertest.Count(t, pool, "select count(*) from dead_letters"))
}

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// The connector acknowledges whatever is answered: the function itself retries briefly, then dead-letters.
func TestOpenFaaSDeliveryIsRetriedHereThenDeadLettered(t *testing.T) {
	t.Parallel()
	header := []string{"X-Topic", "price-events", "X-Kafka-Partition", "1", "X-Kafka-Offset", "2"}
	away := fault.New(fault.Unavailable, "storage_unavailable", "x")
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.store.errs = []error{away, away, nil}
		began := time.Now()
		require.Equal(t, 204, b.post(good, header...))
		require.Len(t, b.store.applied, 1)
		require.Equal(t, 750*time.Millisecond, time.Since(began))

		b.store.errs = []error{away, away, away, away, away, away}
		require.Equal(t, 204, b.post(good, header...))
		require.Len(t, b.dlq.letters, 1)
		require.Equal(t, "storage_unavailable", fault.CodeOf(b.dlq.letters[0].Err))
	})
}

// The letter is all that remains of an event that the connector delivers: it is written even if the connector has gone away.
func TestOpenFaaSLetterOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for name, c := range map[string]struct {
		header  []string
		letters int
	}{
		"KafkaSource, which delivers again": {ce(), 0},
		"connector":                         {[]string{"X-Topic", "price-events", "X-Kafka-Partition", "1", "X-Kafka-Offset", "2"}, 1},
	} {
		b.dlq.letters = nil
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("{"))
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		b.http.ServeHTTP(httptest.NewRecorder(), r)
		require.Len(t, b.dlq.letters, c.letters, name)
	}
}

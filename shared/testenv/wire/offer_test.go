package wire_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/wire"
)

// Every answer is counted as what it is: a refusal without the time to come back is none.
func TestOfferCountsWhatBecameOfRequests(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 5 {
		case 0:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("X-Cache", "HIT")
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer server.Close()
	o, err := wire.Offer(t.Context(), server.URL, 10, 200, time.Second, func(int) []byte { return wire.Request("GET", server.URL+"/", nil) })
	require.NoError(t, err)
	require.InDelta(t, 200, o.Rate, 60, "at most what was asked for, and not much less")
	require.NotZero(t, o.Admitted)
	require.Equal(t, o.Admitted, o.Hits)
	require.NotZero(t, o.P99)
	require.InDelta(t, 2*o.Admitted, o.Refused, 3)
	require.NotZero(t, o.Other["status 503"])
	require.Len(t, o.Other, 2, "and cut connections")
}

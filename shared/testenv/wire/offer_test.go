package wire_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
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
		switch n.Add(1) % 6 {
		case 0:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			w.WriteHeader(http.StatusConflict)
		case 4:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("X-Cache", "HIT")
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer server.Close()
	o, err := wire.Offer(t.Context(), server.URL, 240, 240, time.Second, func(int) []byte { return wire.Request("GET", server.URL+"/", nil) })
	require.NoError(t, err)
	require.Equal(t, 240, o.Sent)
	require.Equal(t, 80, o.Admitted)
	require.Equal(t, 40, o.Hits)
	require.Equal(t, 40, o.Stale)
	require.Equal(t, 80, o.Refused)
	require.Equal(t, 40, o.Other["status 503"])
	require.Equal(t, 40, o.HungUp+o.Other["the server closed the connection without an answer"], "on old connections and on new ones")
	require.Equal(t, 200, o.Admitted+o.Refused+o.Other["status 503"])
	require.NotZero(t, o.P99)
	require.NotZero(t, o.CPU)
	require.Zero(t, o.NotSent)
}

// Requests become due whether or not others are answered. Beyond what may be in flight they are counted, not sent.
func TestOfferDoesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	const most = 10
	var inFlight, served atomic.Int64
	var beyond atomic.Bool
	answer := make(chan struct{})
	full := sync.OnceFunc(func() { time.AfterFunc(200*time.Millisecond, func() { close(answer) }) })
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		served.Add(1)
		switch now := inFlight.Add(1); {
		case now == most:
			full()
		case now > most:
			beyond.Store(true)
		}
		defer inFlight.Add(-1)
		<-answer
	}))
	defer server.Close()
	o, err := wire.Offer(t.Context(), server.URL, most, 200, time.Second, func(int) []byte { return wire.Request("GET", server.URL+"/", nil) })
	require.NoError(t, err)
	require.False(t, beyond.Load())
	require.Equal(t, 200, o.Sent+o.NotSent)
	require.EqualValues(t, o.Sent, served.Load())
	require.Equal(t, o.Sent, o.Admitted)
	require.NotZero(t, o.NotSent)
	require.Empty(t, o.Other)
}

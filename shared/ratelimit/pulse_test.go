package ratelimit

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/call"
)

// burst sends n concurrent requests to each limiter, and returns how many were admitted and how many were decided without Redis.
func burst(t *testing.T, all []*Limiter, n int, limit Limit) (admitted, alone int64) {
	t.Helper()
	var in, degraded atomic.Int64
	var wg sync.WaitGroup
	for _, l := range all {
		for range n {
			wg.Go(func() {
				d := takeOne(context.Background(), l, "c", limit)
				if d.Allowed {
					in.Add(1)
				}
				if d.Degraded {
					degraded.Add(1)
				}
			})
		}
	}
	wg.Wait()
	return in.Load(), degraded.Load()
}

// Opening a connection, waiting for one and a slow reply may together take many timeouts. Redis answers, so Redis decides.
func TestLimiterAdmitsExactlyTheLimitInASlowBurst(t *testing.T) {
	t.Parallel()
	const timeout = 400 * time.Millisecond
	_, net, _, _ := newNetwork(t)
	net.pool, net.slowDial = 4, timeout*3/2
	net.slow = func(int64, int64) time.Duration { return timeout / 5 }
	var all []*Limiter
	for range 4 {
		l, logs := newLimiter(t, net.client(t), timeout, 4)
		t.Cleanup(func() { require.Empty(t, logs.String(), "the mode did not change") })
		all = append(all, l)
	}
	admitted, alone := burst(t, all, 25, Limit{5, time.Minute})
	require.EqualValues(t, 5, admitted)
	require.Zero(t, alone)
}

// A single connection that hangs does not mean that Redis is silent.
func TestLimiterWaitsForALateReplyWhileOthersAreAnswered(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, timeout, 4)
	net.slow = func(conn, _ int64) time.Duration {
		if conn == 1 {
			return 3 * timeout
		}
		return 0
	}
	late := make(chan Decision)
	go func() { late <- takeOne(context.Background(), l, "c", Limit{5, time.Minute}) }()
	require.Eventually(t, func() bool { return net.writes.Load() > 0 }, forever, time.Millisecond)
	ticker := time.NewTicker(timeout / 10)
	defer ticker.Stop()
	for {
		select {
		case d := <-late:
			require.Equal(t, Decision{Allowed: true, Left: []int{4}, Reset: time.Minute}, d, "Redis decided it and counted it once")
			require.Empty(t, logs.String())
			return
		case <-ticker.C:
			require.False(t, takeOne(t.Context(), l, "other", Limit{1000, time.Minute}).Degraded)
		}
	}
}

func TestLimiterSurvivesBrokenConnections(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 4)
	for i := range 5 {
		require.Equal(t, Decision{Allowed: true, Left: []int{4 - i}, Reset: time.Minute}, takeOne(t.Context(), l, "c", Limit{5, time.Minute}))
		net.cut()
	}
	require.False(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Allowed)
	require.Empty(t, logs.String())
}

// Once one request finds Redis silent, those that wait for a connection are decided at once.
func TestLimiterReleasesWaitingRequestsIfRedisIsSilent(t *testing.T) {
	t.Parallel()
	_, net, _, _ := newNetwork(t)
	net.pool = 1
	l, logs := newLimiter(t, net.client(t), 50*time.Millisecond, 4)
	l.now = func() time.Time { return start }
	require.NoError(t, l.Warm(t.Context()))
	net.set(false, true)
	before := net.writes.Load()
	admitted, alone := burst(t, []*Limiter{l}, 50, Limit{8, time.Minute})
	require.EqualValues(t, 2, admitted)
	require.EqualValues(t, 50, alone)
	require.Less(t, net.writes.Load()-before, int64(10), "few requests were sent before the first one timed out")
	require.Equal(t, 1, strings.Count(logs.String(), "\n"))
}

func TestLimiterProbesOnceASecond(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 4)
	now := start
	l.now = func() time.Time { return now }
	net.set(true, false)
	require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	for range 100 { // Redis is up and down
		net.set(false, false)
		require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
		net.set(true, false)
		require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	}
	require.Equal(t, 1, strings.Count(logs.String(), "\n"))
	now = now.Add(probeEvery)
	require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded, "probed, and still unavailable")
	net.set(false, false)
	require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	now = now.Add(probeEvery)
	require.False(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	require.Equal(t, 2, strings.Count(logs.String(), "\n"))
}

// A request that a busy Redis does not answer is refused: deciding alone would admit more than the limit.
func TestLimiterRefusesIfRedisIsBusy(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{Timeout: 300 * time.Millisecond}, things(Limit{5, time.Minute}))
	s.limiter.pulse.patience = 600 * time.Millisecond
	s.net.slow = func(conn, write int64) time.Duration {
		if conn == 1 && write <= 2 { // the writes of Warm
			return 0
		}
		return forever
	}
	require.NoError(t, s.limiter.Warm(t.Context()))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // replies to other requests
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				s.limiter.pulse.beat()
			}
		}
	})
	w := s.post("/things", `{"n":1}`)
	close(stop)
	wg.Wait()
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "limiter_unavailable", call.Problem(t, w).Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.False(t, s.limiter.degraded.Load())
}

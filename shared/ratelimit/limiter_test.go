package ratelimit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/scrape"
)

// forever is a timeout that no test reaches: a request that waits for it hangs the test.
const forever = 5 * time.Minute

// newLimiter returns the limiter of one replica, with a local clock that stands still.
func newLimiter(t *testing.T, client *redis.Client, timeout time.Duration, replicas int) (*Limiter, *bytes.Buffer) {
	t.Helper()
	var logs bytes.Buffer
	l := New(client, Config{Timeout: timeout, MaxCopies: replicas}, slog.New(slog.NewTextHandler(&logs, nil)))
	l.local = NewMemory(func() time.Time { return start })
	l.now = alwaysDue()
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, &logs
}

// takeOne decides a client's request, as the middleware does.
func takeOne(ctx context.Context, l *Limiter, key string, limit Limit) Decision {
	d, err := l.ask(ctx, nil, key, []Limit{limit})
	switch {
	case errors.Is(err, errBusy):
		return Decision{Left: []int{0}, Reset: time.Second}
	case err != nil:
		return l.alone(key, []Limit{l.clientShare(limit)})
	}
	return d
}

// alwaysDue returns a clock that advances by probeEvery at each call.
func alwaysDue() func() time.Time {
	var looks atomic.Int64
	return func() time.Time { return start.Add(time.Duration(looks.Add(1)) * probeEvery) }
}

// valueOf returns the sum of the metrics of that name.
func valueOf(t *testing.T, l *Limiter, name string) (sum float64) {
	t.Helper()
	for series, value := range scrape.Values(t, l.metrics.WritePrometheus) {
		if found, _, _ := strings.Cut(series, "{"); found == name {
			sum += value
		}
	}
	return sum
}

func TestLimiterDecidesAloneWhileRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 2)
	limit := Limit{5, time.Minute}
	d := takeOne(t.Context(), l, "c", limit)
	require.Equal(t, Decision{Allowed: true, Left: []int{4}, Reset: time.Minute}, d)

	net.set(true, false)
	for i := range 4 {
		d = takeOne(t.Context(), l, "c", limit)
		require.True(t, d.Degraded)
		require.Equal(t, i < 2, d.Allowed, "5 divided by 2 replicas")
	}
	require.Equal(t, []int{0}, d.Left)
	require.InDelta(t, 1, valueOf(t, l, "marketdata_limiter_degraded"), 0)
	require.InDelta(t, 4, valueOf(t, l, "marketdata_limiter_degraded_decisions_total"), 0)
	require.Equal(t, 1, strings.Count(logs.String(), "redis is unavailable: this replica enforces its share of the limits"))
	require.NotContains(t, logs.String(), "shared again")
	require.True(t, takeOne(t.Context(), l, "other", Limit{1, time.Minute}).Allowed, "a share is at least one")
	require.False(t, takeOne(t.Context(), l, "other", Limit{1, time.Minute}).Allowed)

	net.set(false, false)
	d = takeOne(t.Context(), l, "c", limit)
	require.Equal(t, Decision{Allowed: true, Left: []int{3}, Reset: time.Minute}, d, "exact again: Redis kept its data")
	set := metrics.NewSet()
	l.Observe(set)
	require.InDelta(t, 0, scrape.Values(t, set.WritePrometheus)["marketdata_limiter_degraded"], 0)
	require.InDelta(t, 6, scrape.Values(t, set.WritePrometheus)["marketdata_limiter_degraded_decisions_total"], 0)
	require.Equal(t, 1, strings.Count(logs.String(), "limits are shared again"))
	require.NotContains(t, logs.String(), "level=ERROR")
}

func TestLimiterDoesNotWaitLongForASlowRedis(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, 50*time.Millisecond, 2)
	require.NoError(t, l.Warm(t.Context()))
	net.set(false, true)
	began := time.Now()
	require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
	require.Len(t, net.muted, 1, "a request that a silent Redis does not answer is not sent again")
	require.Error(t, l.Warm(t.Context()), "/readyz does not wait long either")
	require.Less(t, time.Since(began), 3*time.Second, "with a margin for a busy machine")
}

// While the limiter is degraded, only one of many requests waits for Redis.
func TestLimiterProbesWithOneRequestAtATime(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 1)
	require.NoError(t, l.Warm(t.Context()))
	net.set(true, false)
	require.True(t, takeOne(t.Context(), l, "c", Limit{1, time.Minute}).Degraded)

	net.set(false, true) // reachable but silent
	probe := make(chan Decision, 1)
	go func() { probe <- takeOne(context.WithoutCancel(t.Context()), l, "c", Limit{1, time.Minute}) }()
	<-net.muted
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			var value *redis.StringCmd
			_, err := l.ask(t.Context(), func(p redis.Pipeliner) { value = p.Get(t.Context(), "k") }, "c", []Limit{{1, time.Minute}})
			if err == nil || value.Err() == nil {
				t.Error("decided without Redis")
			}
		})
	}
	wg.Wait()
	require.Empty(t, probe, "the probe still waits")
	require.Empty(t, net.muted, "no other request tried")
	net.set(true, true)
	require.True(t, (<-probe).Degraded)
	net.set(false, false)
	require.False(t, takeOne(t.Context(), l, "c", Limit{1, time.Minute}).Degraded)
	require.Equal(t, 2, strings.Count(logs.String(), "\n"), "one line for each change")
}

func TestLimiterCountsACancelledRequest(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, Decision{Allowed: true, Left: []int{1}, Reset: time.Minute}, takeOne(ctx, l, "c", Limit{2, time.Minute}))
	require.Empty(t, logs.String(), "this is not an error of Redis")

	net.set(true, false)
	require.True(t, takeOne(ctx, l, "c", Limit{2, time.Minute}).Degraded)
	net.set(false, false)
	require.Equal(t, Decision{Allowed: true, Left: []int{0}, Reset: time.Minute}, takeOne(ctx, l, "c", Limit{2, time.Minute}), "it finds Redis back, too")
}

// An outage of Redis admits at most replicas × share more than the limit; a loss of its data at most the limit once more.
func TestLimiterKeepsItsBoundThroughOutages(t *testing.T) {
	t.Parallel()
	const replicas, share = 3, 2
	limit := Limit{8, time.Minute}
	for name, dataLost := range map[string]bool{"data kept": false, "data lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, net, _, _ := newNetwork(t)
			var all []*Limiter
			for range replicas {
				l, _ := newLimiter(t, net.client(t), forever, 4)
				all = append(all, l)
			}
			admitted := 0
			flood := func() {
				for range 20 {
					for _, l := range all {
						if takeOne(t.Context(), l, "c", limit).Allowed {
							admitted++
						}
					}
				}
			}
			flood()
			require.Equal(t, limit.N, admitted)
			for range 3 { // the bound does not depend on the number of outages
				net.set(true, false)
				flood()
				require.Equal(t, limit.N+replicas*share, admitted)
				net.set(false, false)
				flood()
				require.Equal(t, limit.N+replicas*share, admitted)
			}
			if dataLost {
				net.set(true, false)
				flood()
				server.FlushAll()
				net.set(false, false)
				flood()
				require.Equal(t, 2*limit.N+replicas*share, admitted)
			}
			for _, l := range all {
				require.False(t, takeOne(t.Context(), l, "c", limit).Degraded)
			}
		})
	}
}

func TestLimiterReplicasAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	_, net, _, _ := newNetwork(t)
	admitted := make(chan bool, 60)
	var wg sync.WaitGroup
	for range 3 {
		l, _ := newLimiter(t, net.client(t), forever, 4)
		for range 20 {
			wg.Go(func() { admitted <- takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Allowed })
		}
	}
	wg.Wait()
	n := 0
	for range 60 {
		if <-admitted {
			n++
		}
	}
	require.Equal(t, 5, n)
}

// Take uses the shares of its caller while Redis is unavailable.
func TestLimiterUsesTheGivenShares(t *testing.T) {
	t.Parallel()
	limits := []Limit{{6, time.Minute}, {20, time.Hour}}
	shares := []Limit{{2, time.Minute}, {20, time.Hour}}
	_, net, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, forever, 4)
	net.set(true, false)
	for i := range 3 {
		d := l.Take(t.Context(), "c", limits, shares)
		require.True(t, d.Degraded)
		require.Equal(t, i < 2, d.Allowed)
	}
	require.Equal(t, Decision{Left: []int{0, 0}, Reset: 30 * time.Second, Degraded: true},
		l.Take(t.Context(), "none", limits, []Limit{{0, time.Minute}, {20, time.Hour}}), "a share of zero is not rounded up")

	net.set(false, false)
	d := l.Take(t.Context(), "none", limits, []Limit{{0, time.Minute}, {20, time.Hour}})
	require.Equal(t, Decision{Allowed: true, Left: []int{5, 19}, Reset: time.Minute}, d, "Redis is back")
}

// Requests that Redis admitted for a replica count against its share during an outage.
func TestLimiterSharesCountWhatRedisAdmitted(t *testing.T) {
	t.Parallel()
	limits, shares := []Limit{{8, time.Minute}}, []Limit{{3, time.Minute}}
	_, net, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, forever, 4)
	require.True(t, l.Take(t.Context(), "c", limits, shares).Allowed)
	require.True(t, l.Take(t.Context(), "c", limits, shares).Allowed)
	net.set(true, false)
	require.True(t, l.Take(t.Context(), "c", limits, shares).Allowed)
	d := l.Take(t.Context(), "c", limits, shares)
	require.Equal(t, Decision{Left: []int{0}, Reset: time.Minute, Degraded: true}, d)
}

// Requests that Redis refused, because other replicas used the limit up, do not count against a share.
func TestLimiterSharesDoNotCountWhatRedisRefused(t *testing.T) {
	t.Parallel()
	limits, shares := []Limit{{2, time.Minute}}, []Limit{{1, time.Minute}}
	server, net, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, forever, 2)
	other := NewRedis(clientOf(t, server.Addr()), "limit:") // of another replica
	for range 2 {
		d, err := other.Take(t.Context(), "c", limits...)
		require.NoError(t, err)
		require.True(t, d.Allowed)
	}
	require.False(t, l.Take(t.Context(), "c", limits, shares).Allowed)
	net.set(true, false)
	require.True(t, l.Take(t.Context(), "c", limits, shares).Allowed)
	require.False(t, l.Take(t.Context(), "c", limits, shares).Allowed)
}

// A request that Redis has refused, or that has waited for a connection in vain, is not sent again: it might count twice.
func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	_, _, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, forever, 1)
	for err, again := range map[error]bool{
		io.EOF: true, redis.ErrPoolTimeout: false, redis.TxFailedErr: false,
	} {
		require.Equal(t, again, l.lost(fmt.Errorf("take: %w", err)), err)
	}
}

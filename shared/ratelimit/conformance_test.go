package ratelimit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/redisclient"
)

// subject is a store whose clock the test controls.
type subject struct {
	Store
	advance func(time.Duration) // may be negative
	// running means that the clock also runs by itself: durations are accurate to slack, and edges are not hit exactly.
	running bool
}

// slack is the most that a running clock may advance by itself between two steps of a test.
const slack = time.Second

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func memorySubject(*testing.T) subject {
	now := start
	return subject{Store: NewMemory(func() time.Time { return now }), advance: func(d time.Duration) { now = now.Add(d) }}
}

func miniredisSubject(t *testing.T) subject {
	t.Helper()
	server := miniredis.RunT(t)
	return subject{Store: NewRedis(clientOf(t, server.Addr()), "t:"), advance: clockOf(server)}
}

func clientOf(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	client, err := redisclient.Open("redis://" + addr)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return client
}

// clockOf returns a function that moves the server's clock. miniredis expires keys only when told to, and only forwards.
func clockOf(server *miniredis.Miniredis) func(time.Duration) {
	now, furthest := start, start
	server.SetTime(now)
	return func(d time.Duration) {
		now = now.Add(d)
		server.SetTime(now)
		if now.After(furthest) {
			server.FastForward(now.Sub(furthest))
			furthest = now
		}
	}
}

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	conforms(t, memorySubject)
}

func TestRedisConformsOnMiniredis(t *testing.T) {
	t.Parallel()
	conforms(t, miniredisSubject)
}

// conforms tests what every store must do.
func conforms(t *testing.T, open func(*testing.T) subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, subject){
		"random arrivals match the rule":                       testRandomArrivals,
		"several limits admit all or nothing":                  testSeveralLimits,
		"a refused request passes after Reset, and not before": testReset,
		"the wait in whole seconds is exact":                   testSeconds,
		"time stands still if the clock goes back a little":    testClockBack,
		"a clock that goes back far does not extend the wait":  testClockFarBack,
		"a clock that goes back by a window was not wrong":     testClockBackByAWindow,
		"a lowered limit applies at once":                      testLoweredLimit,
		"concurrent requests get exactly the limit":            testConcurrent,
		"clients have logs of their own":                       testKeys,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func (s subject) take(t *testing.T, limits ...Limit) Decision {
	t.Helper()
	d, err := s.Take(t.Context(), "client", limits...)
	require.NoError(t, err)
	require.False(t, d.Degraded)
	require.Len(t, d.Left, len(limits))
	return d
}

func (s subject) sameWait(t *testing.T, want, got time.Duration) {
	t.Helper()
	if s.running {
		require.InDelta(t, want.Seconds(), got.Seconds(), slack.Seconds())
		return
	}
	require.Equal(t, want, got)
}

func testSeveralLimits(t *testing.T, s subject) {
	t.Helper()
	limits := []Limit{{1, 10 * time.Second}, {3, time.Minute}, {4, day}}
	d := s.take(t, limits...)
	require.True(t, d.Allowed)
	require.Equal(t, []int{0, 2, 3}, d.Left)
	s.sameWait(t, 10*time.Second, d.Reset)
	for range 5 {
		d = s.take(t, limits...)
		require.False(t, d.Allowed)
		require.Equal(t, []int{0, 2, 3}, d.Left, "a request that one limit refuses counts for none")
	}
	for range 2 {
		s.advance(11 * time.Second)
		require.True(t, s.take(t, limits...).Allowed)
	}
	s.advance(11 * time.Second)
	d = s.take(t, limits...)
	require.False(t, d.Allowed)
	require.Equal(t, []int{1, 0, 1}, d.Left)
	s.sameWait(t, 27*time.Second, d.Reset) // the longest wait of all limits
	s.advance(28 * time.Second)
	d = s.take(t, limits...)
	require.True(t, d.Allowed)
	require.Equal(t, []int{0, 0, 0}, d.Left)
	s.advance(time.Minute)
	d = s.take(t, limits...)
	require.False(t, d.Allowed)
	require.Equal(t, []int{1, 3, 0}, d.Left)
	s.sameWait(t, day-2*time.Minute-time.Second, d.Reset)
}

func testReset(t *testing.T, s subject) {
	t.Helper()
	limit := Limit{2, time.Minute}
	d := s.take(t, limit)
	require.Equal(t, []int{1}, d.Left)
	s.sameWait(t, time.Minute, d.Reset)
	s.advance(12345678 * time.Microsecond)
	d = s.take(t, limit)
	require.Equal(t, []int{0}, d.Left)
	s.sameWait(t, time.Minute-12345678*time.Microsecond, d.Reset)
	s.advance(20 * time.Second)
	d = s.take(t, limit)
	require.False(t, d.Allowed)
	s.sameWait(t, 40*time.Second-12345678*time.Microsecond, d.Reset)
	if s.running {
		s.advance(d.Reset - slack)
		require.False(t, s.take(t, limit).Allowed)
		s.advance(slack)
	} else {
		s.advance(d.Reset - time.Microsecond)
		require.Equal(t, time.Microsecond, s.take(t, limit).Reset)
		s.advance(time.Microsecond)
	}
	require.True(t, s.take(t, limit).Allowed, "at the instant itself it passes")
}

// Clients get the wait rounded up to whole seconds: a request a second earlier is refused, then one passes.
func testSeconds(t *testing.T, s subject) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	limit := Limit{3, time.Minute}
	for range 100 {
		d := s.take(t, limit)
		for d.Allowed {
			s.advance(time.Duration(rng.Int64N(int64(15 * time.Second))).Truncate(time.Microsecond))
			d = s.take(t, limit)
		}
		if s.running && math.Ceil(d.Reset.Seconds())-d.Reset.Seconds() > 0.5 {
			continue // too near an edge for a running clock
		}
		s.advance(time.Duration(d.Seconds()-1) * time.Second)
		require.False(t, s.take(t, limit).Allowed)
		s.advance(time.Second)
		require.True(t, s.take(t, limit).Allowed)
	}
}

func testClockBack(t *testing.T, s subject) {
	t.Helper()
	limit := Limit{2, time.Minute}
	require.True(t, s.take(t, limit).Allowed)
	s.advance(20 * time.Second)
	require.True(t, s.take(t, limit).Allowed)
	s.advance(-30 * time.Second)
	d := s.take(t, limit)
	require.False(t, d.Allowed, "time stands still at the newest admission")
	s.sameWait(t, 70*time.Second, d.Reset) // until the clock reads a minute after the first
	s.advance(d.Reset - slack)
	require.False(t, s.take(t, limit).Allowed)
	s.advance(slack)
	require.True(t, s.take(t, limit).Allowed)

	// With room left, a request is admitted at once, at the time of the newest admission.
	s.advance(10 * time.Minute)
	require.True(t, s.take(t, limit).Allowed)
	s.advance(-10 * time.Second)
	require.True(t, s.take(t, limit).Allowed)
	require.False(t, s.take(t, limit).Allowed)
	s.advance(69 * time.Second)
	require.False(t, s.take(t, limit).Allowed)
	s.advance(slack)
	require.True(t, s.take(t, limit).Allowed)
}

func testClockFarBack(t *testing.T, s subject) {
	t.Helper()
	limit := Limit{2, time.Minute}
	require.True(t, s.take(t, limit).Allowed)
	require.True(t, s.take(t, limit).Allowed)
	s.advance(-365 * day)
	d := s.take(t, limit)
	require.False(t, d.Allowed, "at most the limit in any minute of real time")
	s.sameWait(t, time.Minute, d.Reset)
	s.advance(time.Minute)
	require.True(t, s.take(t, limit).Allowed)
}

func testClockBackByAWindow(t *testing.T, s subject) {
	t.Helper()
	if s.running { // it would not hit the edge
		return
	}
	limit := Limit{1, time.Minute}
	require.True(t, s.take(t, limit).Allowed)
	s.advance(-time.Minute)
	require.Equal(t, 2*time.Minute, s.take(t, limit).Reset, "the longest wait")
	s.advance(-time.Microsecond)
	require.Equal(t, time.Minute, s.take(t, Limit{1, time.Minute}).Reset)
}

func testLoweredLimit(t *testing.T, s subject) {
	t.Helper()
	for range 5 {
		require.True(t, s.take(t, Limit{5, time.Minute}).Allowed)
		s.advance(10 * time.Second)
	}
	d := s.take(t, Limit{2, time.Minute})
	require.False(t, d.Allowed)
	require.Equal(t, []int{0}, d.Left)
	s.sameWait(t, 40*time.Second, d.Reset) // then only one of the five is left in the window
	s.advance(d.Reset - slack)
	require.False(t, s.take(t, Limit{2, time.Minute}).Allowed)
	s.advance(slack)
	require.True(t, s.take(t, Limit{2, time.Minute}).Allowed)
}

func testConcurrent(t *testing.T, s subject) {
	t.Helper()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if d, err := s.Take(t.Context(), "client", Limit{5, time.Minute}); err == nil && d.Allowed {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 5, admitted.Load())
}

func testKeys(t *testing.T, s subject) {
	t.Helper()
	for _, key := range []string{"a", "b", "latest:2001:db8::/64", "latest:key:ünï {c} *"} {
		d, err := s.Take(t.Context(), key, Limit{1, time.Minute})
		require.NoError(t, err)
		require.True(t, d.Allowed, key)
		d, err = s.Take(t.Context(), key, Limit{1, time.Minute})
		require.NoError(t, err)
		require.False(t, d.Allowed, key)
	}
}

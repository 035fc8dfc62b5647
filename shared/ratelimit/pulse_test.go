package ratelimit

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
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
	session, before := l.session.Load(), net.writes.Load()
	admitted, alone := burst(t, []*Limiter{l}, 50, Limit{8, time.Minute})
	require.EqualValues(t, 2, admitted)
	require.EqualValues(t, 50, alone)
	require.Less(t, net.writes.Load()-before, int64(10), "few requests were sent before the first one timed out")
	require.Error(t, session.ctx.Err(), "one that began to wait later is not left to its own timeout")
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
	var value *redis.StringCmd
	_, err := l.ask(t.Context(), func(p redis.Pipeliner) { value = p.Get(t.Context(), "k") }, "c", []Limit{{5, time.Minute}})
	require.ErrorIs(t, err, errDown)
	require.ErrorIs(t, value.Err(), errDown, "what rides with a request that is not sent has an error")
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
	d := s.limiter.Take(t.Context(), "budget", []Limit{{5, time.Minute}, {9, time.Hour}}, []Limit{{5, time.Minute}, {9, time.Hour}})
	close(stop)
	wg.Wait()
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "limiter_unavailable", call.Problem(t, w).Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, Decision{Left: []int{0, 0}, Reset: time.Second}, d)
	require.False(t, s.limiter.degraded.Load())
}

// Connections that break while others are answered do not make Redis unavailable either.
func TestLimiterRefusesIfConnectionsBreakWhileRedisAnswersOthers(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, logs := newLimiter(t, client, forever, 4)
	require.NoError(t, l.Warm(t.Context()))
	net.breaks = l.pulse.beat
	require.Equal(t, Decision{Left: []int{0}, Reset: time.Second}, takeOne(t.Context(), l, "c", Limit{5, time.Minute}))
	require.Empty(t, logs.String())
	net.breaks = func() {}
	require.True(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded, "nobody is answered")
}

// A read or a write may take a timeout before somebody looks whether Redis is silent; opening a connection may take five.
func TestTimesOfAConnection(t *testing.T) {
	t.Parallel()
	_, net, client, _ := newNetwork(t)
	l, _ := newLimiter(t, client, 3*time.Second, 4)
	require.False(t, takeOne(t.Context(), l, "c", Limit{5, time.Minute}).Degraded)
	require.InDelta(t, 15*time.Second, net.dialLeft.Load(), float64(time.Second))
	require.InDelta(t, 3*time.Second, net.readLeft.Load(), float64(time.Second))
	require.InDelta(t, 3*time.Second, net.writeLeft.Load(), float64(time.Second))
}

// A request waits two seconds for a connection and for its answer, and not less than it takes to find out that Redis is silent.
func TestPatience(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]time.Duration{50 * time.Millisecond: 2 * time.Second, 3 * time.Second: 3 * time.Second} {
		_, _, client, _ := newNetwork(t)
		l, _ := newLimiter(t, client, timeout, 4)
		require.Equal(t, want, l.pulse.patience)
		require.Equal(t, want, l.client.Options().PoolTimeout)
	}
}

// A read goes on while other connections receive something, up to its patience, and then once more for half of the timeout.
func TestAReadLastsWhileRedisHasAPulse(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		heard []time.Duration // when other connections receive something
		reply time.Duration   // 0: never
		ends  time.Duration
	}{
		"silence":                          {nil, 0, 150 * ms},
		"a sign of life in the first wait": {[]time.Duration{90 * ms}, 0, 250 * ms},
		"a sign of life in a second wait":  {[]time.Duration{90 * ms, 240 * ms}, 0, 400 * ms},
		"a late reply":                     {[]time.Duration{90 * ms, 180 * ms, 270 * ms}, 330 * ms, 330 * ms},
		"others alone are answered":        {[]time.Duration{99 * ms, 198 * ms, 297 * ms, 396 * ms, 495 * ms}, 0, 500 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ours, server := net.Pipe()
				p := &pulse{timeout: 100 * ms, patience: 500 * ms}
				watched := &watchedConn{Conn: ours, pulse: p}
				began := time.Now()
				require.NoError(t, watched.SetReadDeadline(began.Add(p.timeout)))
				for _, at := range c.heard {
					time.AfterFunc(at, p.beat)
				}
				if c.reply > 0 {
					time.AfterFunc(c.reply, func() { _, _ = server.Write([]byte("OK")) }) // the read below tells
				}
				n, err := watched.Read(make([]byte, 10))
				require.Equal(t, c.ends, time.Since(began))
				if c.reply > 0 {
					require.NoError(t, err)
					require.Equal(t, 2, n)
					require.EqualValues(t, len(c.heard)+1, p.beats.Load())
					return
				}
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.EqualValues(t, len(c.heard), p.beats.Load())
			})
		})
	}
}

// ended is a connection that the server has closed.
type ended struct {
	net.Conn
	reads int
}

func (c *ended) Read([]byte) (int, error) {
	c.reads++
	return 0, io.EOF
}

func (c *ended) SetReadDeadline(time.Time) error {
	if c.reads > 1 { // ends a test that fails
		return net.ErrClosed
	}
	return nil
}

func TestAClosedConnectionIsNotReadAgain(t *testing.T) {
	t.Parallel()
	c, p := &ended{}, &pulse{timeout: forever, patience: forever}
	p.beat()
	watched := &watchedConn{Conn: c, pulse: p}
	require.NoError(t, watched.SetReadDeadline(time.Now().Add(forever)))
	_, err := watched.Read(make([]byte, 10))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 1, c.reads)
	require.EqualValues(t, 1, p.beats.Load(), "nothing was heard")
}

// The pool looks into the socket before it uses an idle connection again.
func TestWatchedConnectionsShowTheirSocket(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // nothing is buffered
	c, err := (&pulse{}).watch((&net.Dialer{}).DialContext)(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // nothing is buffered
	require.Implements(t, (*syscall.Conn)(nil), c)
}

//go:build integration && linux

package portability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

func TestEachFunctionOnEachPlatform(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range pairs(platforms) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, coldStart := w.start(t, c.p, c.f)
			t.Logf("cold start: %d ms from exec to the first 200", coldStart.Milliseconds())
			t.Run("probes", func(t *testing.T) { answersProbes(t, i) })               //nolint:paralleltest // in order, the last one ends the function
			t.Run("bodies", func(t *testing.T) { readsBodies(t, w, i, c.f) })         //nolint:paralleltest // as above
			t.Run("keep-alive", func(t *testing.T) { keepsConnections(t, i) })        //nolint:paralleltest // as above
			t.Run("client address", func(t *testing.T) { countsClients(t, i, c.f) })  //nolint:paralleltest // as above
			t.Run("stop", func(t *testing.T) { losesNothingAtTheStop(t, w, i, c.f) }) //nolint:paralleltest // as above
		})
	}
}

// answersProbes sends probes to the function itself, as a kubelet does, and through the platform's part, as a client might.
func answersProbes(t *testing.T, i *instance) {
	t.Helper()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/healthz", "/readyz", "/_/health", "/_/ready"} {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+i.address+path, nil)
			require.NoError(t, err)
			req.Header.Set("User-Agent", "kube-probe/1.33")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s %s: %s", method, path, body)
			require.Equal(t, method == http.MethodGet, len(body) > 0)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			got, err := i.call(t.Context(), request{method: method, path: path})
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, got.status)
		}
	}
}

// readsBodies sends each body in three forms: without its length, empty, and only after 100 Continue.
func readsBodies(t *testing.T, w *world, i *instance, f function) {
	t.Helper()
	send := func(t *testing.T, p post, body io.Reader, want int) {
		t.Helper()
		p.body = body
		got, err := i.call(t.Context(), p.request)
		require.NoError(t, err)
		require.Equal(t, want, got.status, "%s %s: %s", p.method, p.path, got.body)
	}
	for k := range f.posts(i.platform) {
		t.Run("empty", func(t *testing.T) {
			p := f.posts(i.platform)[k]
			send(t, p, http.NoBody, p.withoutBody)
		})
		t.Run("chunked", func(t *testing.T) {
			p := f.posts(i.platform)[k]
			send(t, p, io.MultiReader(strings.NewReader(p.content[:1]), strings.NewReader(p.content[1:])), p.status)
			if p.storesPrice {
				var points int
				symbol := p.header.Get("Ce-Subject") + p.header.Get("X-Kafka-Ce_subject")
				require.NoError(t, w.pool.QueryRow(t.Context(), "select count(*) from price_points where symbol = $1", symbol).Scan(&points))
				require.Equal(t, 1, points)
			}
		})
		t.Run("expect 100-continue", func(t *testing.T) {
			p := f.posts(i.platform)[k]
			if p.header == nil {
				p.header = http.Header{}
			}
			p.header.Set("Expect", "100-continue")
			body := &heldBody{gate: newGate(), content: strings.NewReader(p.content)}
			body.release()
			began := time.Now()
			send(t, p, body, p.status)
			require.Less(t, time.Since(began), 20*time.Second, "the client gave up waiting for 100 Continue")
			require.Equal(t, p.readsBody, body.begun, "the body is sent if it is read")
		})
	}
}

func keepsConnections(t *testing.T, i *instance) {
	t.Helper()
	i.become()
	for _, want := range []bool{false, true, true} {
		var reused bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		got, err := i.call(ctx, request{method: http.MethodGet, path: "/healthz"})
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, want, reused)
	}
}

// countsClients uses up a client's limit with requests that lie about the address.
func countsClients(t *testing.T, i *instance, f function) {
	t.Helper()
	if f.limited == nil {
		return // its public routes have the same middleware, with a limit of 1200 per minute
	}
	for range 2 {
		i.become() // another client has a limit of its own
		for n := range f.limit + 1 {
			r := f.limited()
			r.n = n
			got, err := i.call(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(f.limit), got.header.Get("X-Ratelimit-Limit"))
			require.Equal(t, n < f.limit, ok(got), "request %d: %d %s", n, got.status, got.body)
		}
	}
}

// losesNothingAtTheStop stops an instance under a steady load, with a request in flight.
func losesNothingAtTheStop(t *testing.T, w *world, i *instance, f function) {
	t.Helper()
	i.become()
	slow := w.hold(t, i, f)
	var requests int64
	var failed []string
	endLoad, quiet, stopped := load(t, i, f), make(chan struct{}), make(chan error, 1)
	go func() {
		stopped <- i.stop(func() {
			requests, failed = endLoad()
			close(quiet)
		})
	}()
	require.Eventually(t, func() bool { return !i.ready() }, 5*time.Second, time.Millisecond)
	select {
	case <-quiet:
		require.FailNow(t, "load balancers cannot know that the instance stops: it was ready until the end")
	default:
	}
	<-quiet
	require.Empty(t, failed, "of %d requests", requests)
	require.Positive(t, requests)

	<-i.signaled
	require.Eventually(t, func() bool { // it takes no new connections, and waits for the request in flight
		c, err := net.Dial("tcp", i.address)
		if err == nil {
			_ = c.Close() // nothing was sent
		}
		return err != nil
	}, 10*time.Second, 10*time.Millisecond)
	slow.release()
	got := <-slow.answer
	require.True(t, ok(got), "the request in flight: %d %s", got.status, got.body)
	require.NoError(t, <-stopped)
	i.requireEnd(t)
}

// load keeps two requests in flight until the returned function is called, which returns their number and what went wrong.
func load(t *testing.T, i *instance, f function) (end func() (int64, []string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg       sync.WaitGroup
		requests atomic.Int64
		mu       sync.Mutex
		failed   []string
	)
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				got, err := i.call(context.WithoutCancel(ctx), f.work(i.platform))
				requests.Add(1)
				if err != nil || !ok(got) {
					mu.Lock()
					failed = append(failed, fmt.Sprint(got.status, " ", got.body, err))
					mu.Unlock()
				}
				<-time.After(5 * time.Millisecond) // the machine has other tests to run
			}
		})
	}
	return func() (int64, []string) {
		cancel()
		wg.Wait()
		return requests.Load(), failed
	}
}

// An instance is alive at once, and ready once its Postgres is.
func TestReadyOncePostgresIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range pairs(platforms) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(w.database)
			require.NoError(t, err)
			server := u.Host
			u.Host = fmt.Sprint("127.0.0.1:", testenv.FreePort(t))
			i := c.p.before(t, c.p.start(t, command(t, c.f.name, append(w.env(t, c.p), "DATABASE_URL="+u.String())...)), options{})
			require.Eventually(t, func() bool { return status(i.url+"/healthz", nil) == http.StatusOK }, coldStartLimit, time.Millisecond)
			require.Equal(t, c.f.servesWithoutPostgres, i.ready())
			passOn(t, u.Host, server)
			require.Eventually(t, i.ready, 10*time.Second, 10*time.Millisecond)
		})
	}
}

// passOn forwards connections from one address to another until the test ends.
func passOn(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}

// What the platform itself refuses or gives up does no harm to the function.
func TestLimitsOfThePlatform(t *testing.T) {
	t.Parallel()
	for name, c := range pairs(platforms[1:]) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t) // of its own, because it locks a table
			i, _ := w.start(t, c.p, c.f)
			t.Run("timeout", func(t *testing.T) { answersTimeouts(t, w, i, c.f) })     //nolint:paralleltest // in order
			t.Run("concurrency", func(t *testing.T) { answersOverflow(t, w, i, c.f) }) //nolint:paralleltest // in order
			got, err := i.call(t.Context(), c.f.work(c.p))
			require.NoError(t, err)
			require.True(t, ok(got), got.body)
		})
	}
}

func answersTimeouts(t *testing.T, w *world, i *instance, f function) {
	t.Helper()
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table "+f.table+" in access exclusive mode")
	require.NoError(t, err)
	got, err := i.before(t, i.process, options{timeout: 300 * time.Millisecond}).call(t.Context(), f.work(i.platform))
	require.NoError(t, err)
	require.Equal(t, http.StatusGatewayTimeout, got.status, got.body)
	require.NoError(t, tx.Rollback(t.Context()))
}

func answersOverflow(t *testing.T, w *world, i *instance, f function) {
	t.Helper()
	one := i.before(t, i.process, options{concurrency: 1})
	slow := w.hold(t, one, f)
	waiting := make(chan error, one.room)
	for n := range one.room {
		go func() {
			got, err := one.call(context.WithoutCancel(t.Context()), f.work(i.platform))
			if err == nil && !ok(got) {
				err = errors.New(got.body)
			}
			waiting <- err
		}()
		require.Eventually(t, func() bool { return one.busy() == n+2 }, 5*time.Second, time.Millisecond)
	}
	got, err := one.call(t.Context(), f.work(i.platform))
	require.NoError(t, err)
	require.Equal(t, one.overflow, got.status)
	slow.release()
	require.True(t, ok(<-slow.answer))
	for range one.room {
		require.NoError(t, <-waiting)
	}
}

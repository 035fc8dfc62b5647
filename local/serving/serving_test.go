package serving_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/balance"
	"marketdata/local/serving"
)

// idle is short, and longer than the work of a request on a busy machine.
const idle = 200 * time.Millisecond

// replicas starts servers of this process as replicas.
type replicas struct {
	handle  http.HandlerFunc
	started atomic.Int32
	running atomic.Int32
	last    atomic.Pointer[httptest.Server]
}

func (s *replicas) start(context.Context) (*url.URL, func(context.Context), error) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			s.handle(w, r)
		}
	}))
	s.last.Store(server)
	s.started.Add(1)
	s.running.Add(1)
	address, err := url.Parse(server.URL)
	return address, func(context.Context) { server.Close(); s.running.Add(-1) }, err
}

// run runs one function until the end of the test.
func run(t *testing.T, spec serving.Spec, s *replicas) (address string, platform *serving.Platform) {
	t.Helper()
	if spec.Timeout == 0 {
		spec.Timeout = 10 * time.Second
	}
	if spec.Target == 0 {
		spec.Target = 70
	}
	platform = serving.New(idle, slog.New(slog.DiscardHandler))
	address, err := platform.Add(t.Context(), "compute-ma", spec, s.start)
	require.NoError(t, err)
	platform.Run()
	t.Cleanup(func() {
		platform.Close(context.Background())
		require.Zero(t, s.running.Load(), "replicas are left running")
	})
	return address, platform
}

func get(t *testing.T, target string) (int, string, http.Header) {
	t.Helper()
	resp, err := http.Get(target)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body), resp.Header
}

// eventually waits for what happens after the idle time.
func eventually(t *testing.T, what func() bool, text string) {
	t.Helper()
	require.Eventually(t, what, 10*time.Second, 5*time.Millisecond, text)
}

func TestSleepsAndWakes(t *testing.T) {
	t.Parallel()
	s := &replicas{handle: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }}
	address, platform := run(t, serving.Spec{}, s)
	require.Equal(t, []serving.Status{{Function: "compute-ma"}}, platform.Status())

	for n := int32(1); n <= 2; n++ {
		status, body, header := get(t, address)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "here", body)
		require.Contains(t, header.Get("Server-Timing"), "coldstart;dur=")
		require.Equal(t, n, s.started.Load())

		_, _, header = get(t, address)
		require.Empty(t, header.Get("Server-Timing"), "only requests that waited for a cold start say so")
		eventually(t, func() bool { return s.running.Load() == 0 }, "the function did not sleep")
	}
	state := platform.Status()[0]
	require.Equal(t, 2, state.ColdStarts)
	require.Zero(t, state.Replicas)
	require.Positive(t, state.P50)
	require.GreaterOrEqual(t, state.P99, state.P50)
}

// Senders whose pauses are about as long as the idle time meet a replica at every moment of its end.
func TestNoRequestIsLostWhenAReplicaEnds(t *testing.T) {
	t.Parallel()
	s := &replicas{handle: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing shows in the echo
		_, _ = w.Write(body)
	}}
	address, platform := run(t, serving.Spec{}, s)
	for i := range 25 {
		body := strings.Repeat("x", 1+i*1000)
		resp, err := http.Post(address, "text/plain", strings.NewReader(body))
		require.NoError(t, err)
		echo, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Len(t, echo, len(body))
		<-time.After(idle*9/10 + time.Duration(i)*4*time.Millisecond)
	}
	require.Positive(t, platform.Status()[0].ColdStarts)
}

// A stream reaches the client as it is written, counts as one request in flight, and has the revision's timeout.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := &replicas{handle: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: 1\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}}
	const timeout = 3 * idle
	address, platform := run(t, serving.Spec{Timeout: timeout}, s)
	began := time.Now()
	resp, err := http.Get(address)
	require.NoError(t, err)
	first := make([]byte, len("data: 1\n\n"))
	_, err = io.ReadFull(resp.Body, first)
	require.NoError(t, err)
	require.Equal(t, 1, platform.Status()[0].InFlight)
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err, "cut")
	require.NoError(t, resp.Body.Close())
	require.GreaterOrEqual(t, time.Since(began), timeout)
	eventually(t, func() bool { return platform.Status()[0].InFlight == 0 }, "it still counts")
	require.EqualValues(t, 1, s.started.Load())
}

func TestAProbeWakesNobody(t *testing.T) {
	t.Parallel()
	s := &replicas{}
	address, _ := run(t, serving.Spec{}, s)
	target, err := url.Parse(address)
	require.NoError(t, err)
	require.True(t, balance.Probe(t.Context(), http.DefaultTransport, target))
	require.Zero(t, s.started.Load())
}

// A replica never has more requests than containerConcurrency, and the others wait for one that is free.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	inside, most := map[string]int{}, 0
	s := &replicas{handle: func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		inside[r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }).String()]++
		for _, n := range inside {
			most = max(most, n)
		}
		mu.Unlock()
		<-time.After(20 * time.Millisecond)
		mu.Lock()
		inside[r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }).String()]--
		mu.Unlock()
	}}
	address, platform := run(t, serving.Spec{Concurrency: 2, Target: 1.4, MaxScale: 3}, s)
	var senders sync.WaitGroup
	for range 12 {
		senders.Go(func() {
			for range 10 {
				resp, err := http.Get(address)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Error("refused", err)
					return
				}
				_ = resp.Body.Close()
			}
		})
	}
	senders.Wait()
	require.Equal(t, 2, most)
	require.Equal(t, int32(3), s.started.Load(), "as many as max-scale allows")
	require.Zero(t, platform.Status()[0].InFlight)
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := &replicas{handle: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}}
	address, _ := run(t, serving.Spec{Timeout: 300 * time.Millisecond}, s)
	status, body, _ := get(t, address)
	require.Equal(t, http.StatusGatewayTimeout, status)
	require.Equal(t, "request timeout\n", body)

	resp, err := http.Get(address + "/begun")
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err, "a response that has begun is cut off")
	require.NoError(t, resp.Body.Close())
}

// A replica that is gone gets no request, and the requests wait until it is back, as after a crash.
func TestAReplicaThatIsGone(t *testing.T) {
	t.Parallel()
	s := &replicas{handle: func(http.ResponseWriter, *http.Request) {}}
	address, _ := run(t, serving.Spec{MinScale: 1, Timeout: 500 * time.Millisecond}, s)
	status, _, _ := get(t, address)
	require.Equal(t, http.StatusOK, status)
	s.last.Load().Close()
	status, _, _ = get(t, address)
	require.Equal(t, http.StatusGatewayTimeout, status)
}

func TestMinScale(t *testing.T) {
	t.Parallel()
	s := &replicas{}
	_, platform := run(t, serving.Spec{MinScale: 2}, s)
	eventually(t, func() bool { return platform.Status()[0].ColdStarts == 2 }, "two replicas should always run")
	<-time.After(2 * idle)
	require.Equal(t, int32(2), s.running.Load())
}

// The function sees the query as sent, and the addresses of all proxies.
func TestForwarded(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := &replicas{handle: func(_ http.ResponseWriter, r *http.Request) { seen <- r }}
	address, _ := run(t, serving.Spec{}, s)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/a%2Fb?x=%zz;y", nil)
	require.NoError(t, err)
	req.Header.Set("X-Forwarded-For", "203.0.113.7")
	req.Header.Set("X-Forwarded-Host", "prices.example")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	got := <-seen
	require.Equal(t, "/a%2Fb?x=%zz;y", got.RequestURI)
	require.Equal(t, "203.0.113.7, 127.0.0.1", got.Header.Get("X-Forwarded-For"))
	require.Equal(t, "prices.example", got.Header.Get("X-Forwarded-Host"))
}

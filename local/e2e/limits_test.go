//go:build integration

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// limitAnswer is the response to a client, as far as the limiter determines it.
type limitAnswer struct {
	replica    int
	status     int
	code       string
	detail     string
	degraded   bool
	retryAfter int // seconds; 0: none
	header     http.Header
}

// replicas returns the URLs of a function's replicas.
func (s *stack) replicas(function string) []string {
	return strings.Split(s.env[function+"_URLS"], ",")
}

// floodLatest sends n concurrent requests of the client, spread over the replicas. It may be called from any goroutine.
func floodLatest(t *testing.T, replicas []string, n int, client string) []limitAnswer {
	t.Helper()
	answers := make([]limitAnswer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			answers[i] = askAs(t, http.MethodGet, replicas[i%len(replicas)]+"/prices/latest?symbol=AAPL", "", client)
			answers[i].replica = i % len(replicas)
		})
	}
	wg.Wait()
	return answers
}

// askAs makes one request of the client, as if it came through a proxy on loopback.
func askAs(t *testing.T, method, url, body, client string) (a limitAnswer) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", client)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return a
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	var problem struct{ Code, Detail string }
	_ = json.Unmarshal(text, &problem) // other responses have no code
	a = limitAnswer{status: resp.StatusCode, code: problem.Code, detail: problem.Detail, degraded: resp.Header.Get("RateLimit-Mode") == "degraded", header: resp.Header}
	a.retryAfter, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
	return a
}

func countAnswers(answers []limitAnswer, is func(limitAnswer) bool) (n int) {
	for _, a := range answers {
		if is(a) {
			n++
		}
	}
	return n
}

func admitted(a limitAnswer) bool { return a.status == http.StatusOK }
func degraded(a limitAnswer) bool { return a.degraded }

func TestLimitsOverReplicas(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=get-latest=3,poll=2", "RATE_LIMIT_TIMEOUT=30s", "RATE_LIMIT_POLL=2/10s", "YFINANCE_BUDGET=1000/1m,23/1d")
	latest := s.replicas("GET_LATEST")
	require.Len(t, latest, 3)

	t.Run("exactly 5 of 50 concurrent requests to 3 replicas are admitted", func(t *testing.T) { //nolint:paralleltest // in order
		answers := floodLatest(t, latest, 50, "203.0.113.5")
		require.Equal(t, 5, countAnswers(answers, admitted))
		require.Zero(t, countAnswers(answers, degraded))
		for _, a := range answers {
			require.Equal(t, `"latest";q=5;w=60`, a.header.Get("RateLimit-Policy"))
			if !admitted(a) {
				require.Equal(t, http.StatusTooManyRequests, a.status)
				require.Equal(t, "rate_limited", a.code)
				require.Equal(t, strconv.Itoa(a.retryAfter), a.header.Get("X-RateLimit-Reset"))
				require.InDelta(t, 55, a.retryAfter, 5)
			}
		}
		require.Equal(t, 5, countAnswers(floodLatest(t, latest, 9, "203.0.113.6"), admitted), "another client has a limit of its own")
	})
	t.Run("Retry-After is exact", func(t *testing.T) { exactRetryAfter(t, s) })                   //nolint:paralleltest // in order
	t.Run("all replicas share one budget", func(t *testing.T) { budgetOfReplicas(t, s, latest) }) //nolint:paralleltest // in order
}

// While Redis is healthy, no burst makes a replica decide alone: a long wait within the replica must not look like an outage.
// RATE_LIMIT_TIMEOUT has its default here. If the machine itself delays Redis for that long, the attempt proves nothing: only the
// bound is checked, and another burst is sent.
func TestBurstsOver4ReplicasAdmitTheLimit(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=get-latest=4")
	latest := s.replicas("GET_LATEST")
	require.Len(t, latest, 4)
	options, err := redis.ParseURL(s.env["REDIS_URL"])
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // only pinged
	const limit, replicas, share = 5, 4, 1
	counted := 0
	for i := 0; counted < 8; i++ {
		require.Less(t, i, 60, "Redis never answered in time")
		silence := longestSilence(t, client)
		answers := floodLatest(t, latest, 200, fmt.Sprintf("203.0.113.%d", 10+i))
		if silence() >= 50*time.Millisecond {
			require.LessOrEqual(t, countAnswers(answers, admitted), limit+replicas*share)
			awaitRedis(t, latest)
			continue
		}
		counted++
		outcomes := map[string]int{}
		for _, a := range answers {
			outcomes[fmt.Sprintf("%d %s degraded=%t", a.status, a.code, a.degraded)]++
		}
		require.Equal(t, limit, countAnswers(answers, admitted), "%v", outcomes)
		require.Zero(t, countAnswers(answers, degraded), "%v", outcomes)
	}
}

// longestSilence pings Redis until the returned function is called, which returns the longest time that a ping took.
func longestSilence(t *testing.T, client *redis.Client) func() time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	longest := make(chan time.Duration, 1)
	require.NoError(t, client.Ping(ctx).Err())
	go func() {
		var most time.Duration
		for ctx.Err() == nil {
			before := time.Now()
			if client.Ping(context.WithoutCancel(ctx)).Err() != nil {
				most = time.Hour
			}
			most = max(most, time.Since(before))
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
		longest <- most
	}()
	return func() time.Duration {
		cancel()
		return <-longest
	}
}

// awaitRedis waits until every replica has noticed that Redis is back.
func awaitRedis(t *testing.T, latest []string) {
	t.Helper()
	for i, u := range latest {
		require.Eventually(t, func() bool {
			return !askAs(t, http.MethodGet, u+"/prices/latest?symbol=AAPL", "", fmt.Sprintf("198.51.100.%d", i)).degraded
		}, 20*time.Second, 50*time.Millisecond)
	}
}

// exactRetryAfter uses up the limit of 2 in 10 s, and tries again a second too early and at the time of Retry-After.
func exactRetryAfter(t *testing.T, s *stack) {
	t.Helper()
	poll := s.replicas("POLL")
	post := func(i int) limitAnswer {
		return askAs(t, http.MethodPost, poll[i%2]+"/prices/poll", `{"symbols":["AAPL"],"interval":86400}`, "203.0.113.7")
	}
	for try := range 3 {
		before := time.Now() // earlier than the first admission
		for i := range 2 {
			require.Equal(t, http.StatusAccepted, post(i).status)
		}
		refused := post(0)
		at := time.Now()
		require.Equal(t, http.StatusTooManyRequests, refused.status)
		require.Positive(t, refused.retryAfter)
		wait := func(d time.Duration) { <-time.After(time.Until(at.Add(d))) }
		wait(time.Duration(refused.retryAfter-1) * time.Second)
		early := post(1)
		inTime := time.Since(before) < 10*time.Second
		if inTime {
			require.Equal(t, http.StatusTooManyRequests, early.status, "a second too early")
			require.Equal(t, 1, early.retryAfter)
			wait(time.Duration(refused.retryAfter) * time.Second)
			require.Equal(t, http.StatusAccepted, post(0).status)
			return
		}
		// The machine was too slow to send these requests within a second: try again with an empty window.
		require.Less(t, try, 2, "the machine is too slow")
		wait(time.Duration(refused.retryAfter+10) * time.Second)
	}
}

// budgetOfReplicas requests unknown symbols, each as another client. Every request calls the provider, until the day's budget is
// spent.
func budgetOfReplicas(t *testing.T, s *stack, latest []string) {
	t.Helper()
	answers := make([]limitAnswer, 60)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i] = askAs(t, http.MethodGet, fmt.Sprintf("%s/prices/latest?symbol=NONE%d", latest[i%3], i), "", fmt.Sprintf("198.51.100.%d", i))
		})
	}
	wg.Wait()
	spent := countAnswers(answers, func(a limitAnswer) bool {
		return a.status == http.StatusServiceUnavailable && a.code == "provider_rate_limited" && a.retryAfter > 0
	})
	require.Equal(t, 60, spent+countAnswers(answers, func(a limitAnswer) bool { return a.code == "symbol_not_found" }))
	require.NotZero(t, spent)
	_, body, _ := call(t, http.MethodGet, s.env["EXCHANGE_URL"]+"/_admin/calls?provider=yfinance", "")
	require.JSONEq(t, `{"calls":23}`, string(body))
	require.Equal(t, []string{"23"}, s.rows(t, "select calls::text from provider_day_counts where provider = 'yfinance'"))
	_, metrics, _ := call(t, http.MethodGet, latest[0]+"/metrics", "")
	require.Contains(t, string(metrics), `marketdata_provider_budget_left{provider="yfinance",window="1d"} 0`)
}

// redisServer is a Redis without persistence that belongs to one test.
type redisServer struct {
	addr string
	cmd  *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	r := &redisServer{addr: fmt.Sprint("127.0.0.1:", testenv.FreePort(t))}
	r.start(t)
	t.Cleanup(func() { r.kill(t) })
	return r
}

func (r *redisServer) start(t *testing.T) {
	t.Helper()
	binary := testenv.Installed(t, "redis-server", "redis-server") // the test pauses and kills it
	_, port, _ := strings.Cut(r.addr, ":")
	r.cmd = exec.Command(binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
	require.NoError(t, r.cmd.Start())
	client := redis.NewClient(&redis.Options{Addr: r.addr})
	defer client.Close() //nolint:errcheck // only pinged
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
}

func (r *redisServer) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(s))
}

// kill kills the server, which loses its memory.
func (r *redisServer) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Kill())
	require.Error(t, r.cmd.Wait(), "killed")
}

// Redis stops answering, comes back with its memory, is killed, and comes back without its memory. All of this happens within one
// window.
func TestLimitsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := start(t, newDir(t), "COPIES=get-latest=3", "REDIS_URL=redis://"+server.addr+"/0", "RATE_LIMIT_TIMEOUT=2s",
		"RATE_LIMIT_LATEST=8/1h", "MAX_COPIES=4", "FINNHUB_BUDGET=24/1h", "TWELVE_DATA_BUDGET=7/1h,800/1d")
	latest := s.replicas("GET_LATEST")
	const limit, replicas, share = 8, 3, 2
	total := 0
	floodAll := func() []limitAnswer {
		answers := floodLatest(t, latest, 45, "203.0.113.5")
		total += countAnswers(answers, admitted)
		return answers
	}
	require.Zero(t, countAnswers(floodAll(), degraded))
	require.Equal(t, limit, total)

	server.signal(t, syscall.SIGSTOP)
	require.Equal(t, 45, countAnswers(floodAll(), degraded))
	require.Equal(t, limit+replicas*share, total)
	withoutRedis(t, s, latest)
	server.signal(t, syscall.SIGCONT)
	awaitRedis(t, latest)
	require.Zero(t, countAnswers(floodAll(), degraded))
	require.Equal(t, limit+replicas*share, total, "Redis kept its memory, so the limit is exact again")

	server.kill(t)
	require.Equal(t, 45, countAnswers(floodAll(), degraded))
	require.Equal(t, limit+replicas*share, total, "a replica's share is for the window, not for each outage")
	server.start(t)
	awaitRedis(t, latest)
	require.Zero(t, countAnswers(floodAll(), degraded))
	require.Equal(t, 2*limit+replicas*share, total, "Redis lost its memory: at most the limit and the shares are admitted on top")
	require.Equal(t, limit, countAnswers(floodLatest(t, latest, 45, "203.0.113.9"), admitted), "exact again")
}

// withoutRedis checks the functions while Redis does not answer.
func withoutRedis(t *testing.T, s *stack, latest []string) {
	t.Helper()
	created := askAs(t, http.MethodPost, s.env["POLL_URL"]+"/prices/poll", `{"symbols":["AAPL"]}`, "203.0.113.5")
	require.Equal(t, http.StatusServiceUnavailable, created.status, "creating jobs fails closed")
	require.Equal(t, "limiter_unavailable", created.code)
	require.Equal(t, 1, created.retryAfter)
	require.True(t, created.degraded)
	status, body, _ := call(t, http.MethodGet, latest[0]+"/readyz?verbose", "")
	require.Equal(t, http.StatusOK, status, "Redis is optional, so the function is ready")
	require.Contains(t, string(body), `"redis":"unavailable"`)
	_, metrics, _ := call(t, http.MethodGet, latest[0]+"/metrics", "")
	require.Contains(t, string(metrics), "marketdata_limiter_degraded 1")
	require.Contains(t, string(metrics), `marketdata_limiter_refusals_total{policy="latest"}`)
	require.Contains(t, s.out.String(), "redis is unavailable: this replica enforces its share of the limits")
	budgetsWithoutRedis(t, s, latest)
}

// budgetsWithoutRedis sends each replica more requests than its share, which is an eighth: there are two functions with 4 replicas.
func budgetsWithoutRedis(t *testing.T, s *stack, latest []string) {
	t.Helper()
	for provider, c := range map[string]struct {
		calls, wait int
		detail      string
	}{
		"finnhub":     {3 * len(latest), 3600, "this replica's share of the budget of calls to finnhub is spent"},
		"twelve_data": {0, 30, "calls to twelve_data are paused until replicas share its budget again: it is too small to divide"},
	} {
		answers := make([]limitAnswer, 5*len(latest))
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				u := fmt.Sprintf("%s/prices/latest?symbol=NONE%d&provider=%s", latest[i%len(latest)], i, provider)
				answers[i] = askAs(t, http.MethodGet, u, "", fmt.Sprintf("192.0.2.%d", i))
			})
		}
		wg.Wait()
		made := countAnswers(answers, func(a limitAnswer) bool { return a.code == "symbol_not_found" })
		require.Equal(t, c.calls, made, provider)
		for _, a := range answers {
			if a.code == "symbol_not_found" {
				continue
			}
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.Equal(t, "provider_rate_limited", a.code)
			require.Equal(t, c.detail, a.detail)
			require.InEpsilon(t, c.wait, a.retryAfter, 0.1)
		}
		_, body, _ := call(t, http.MethodGet, s.env["EXCHANGE_URL"]+"/_admin/calls?provider="+provider, "")
		require.JSONEq(t, fmt.Sprintf(`{"calls":%d}`, c.calls), string(body))
	}
}

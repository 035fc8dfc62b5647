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

// limitAnswer is what a client sees of the limiter.
type limitAnswer struct {
	copy       int
	status     int
	code       string
	detail     string
	degraded   bool
	retryAfter int // seconds; 0: none
	header     http.Header
}

// copies gives the addresses of a function's copies.
func (s *stack) copies(function string) []string { return strings.Split(s.env[function+"_URLS"], ",") }

// floodLatest sends n requests for the client at once, spread over the copies. It may be called from any goroutine.
func floodLatest(t *testing.T, copies []string, n int, client string) []limitAnswer {
	t.Helper()
	answers := make([]limitAnswer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			answers[i] = askAs(t, http.MethodGet, copies[i%len(copies)]+"/prices/latest?symbol=AAPL", "", client)
			answers[i].copy = i % len(copies)
		})
	}
	wg.Wait()
	return answers
}

// askAs makes one request for the client, whose address a proxy on loopback would send along.
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
	_ = json.Unmarshal(text, &problem) // what is no problem document has no code
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

func TestLimitsOverCopies(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=get-latest=3,poll=2", "RATE_LIMIT_TIMEOUT=30s", "RATE_LIMIT_POLL=2/10s", "YFINANCE_BUDGET=1000/1m,23/1d")
	latest := s.copies("GET_LATEST")
	require.Len(t, latest, 3)

	t.Run("of 50 requests at once on 3 copies exactly 5 are admitted", func(t *testing.T) { //nolint:paralleltest // in order
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
		require.Equal(t, 5, countAnswers(floodLatest(t, latest, 9, "203.0.113.6"), admitted), "another client has its own")
	})
	t.Run("Retry-After is exact", func(t *testing.T) { exactRetryAfter(t, s) })                    //nolint:paralleltest // in order
	t.Run("the budget is one for all copies", func(t *testing.T) { budgetOfCopies(t, s, latest) }) //nolint:paralleltest // in order
}

// While Redis is healthy a burst is no outage, however large it is: no replica takes a wait of its own for one, and decides alone.
// The time that the limiter gives Redis is the default here. A machine that lets Redis wait for as long says nothing about
// that: the burst is bounded all the same, and another one is sent.
func TestBurstsOver4ReplicasAdmitTheLimit(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=get-latest=4")
	latest := s.copies("GET_LATEST")
	require.Len(t, latest, 4)
	options, err := redis.ParseURL(s.env["REDIS_URL"])
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // only pinged
	const limit, copies, share = 5, 4, 1
	counted := 0
	for i := 0; counted < 8; i++ {
		require.Less(t, i, 60, "Redis never answered in time")
		silence := longestSilence(t, client)
		answers := floodLatest(t, latest, 200, fmt.Sprintf("203.0.113.%d", 10+i))
		if silence() >= 50*time.Millisecond {
			require.LessOrEqual(t, countAnswers(answers, admitted), limit+copies*share)
			askedAgain(t, latest)
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

// longestSilence pings Redis until its result is called, which is the longest that a ping took.
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

// askedAgain waits until every replica has found out that Redis is back.
func askedAgain(t *testing.T, latest []string) {
	t.Helper()
	for i, u := range latest {
		require.Eventually(t, func() bool {
			return !askAs(t, http.MethodGet, u+"/prices/latest?symbol=AAPL", "", fmt.Sprintf("198.51.100.%d", i)).degraded
		}, 20*time.Second, 50*time.Millisecond)
	}
}

// exactRetryAfter spends the limit of 2 in 10 s, and comes back a second before it may and when it may.
func exactRetryAfter(t *testing.T, s *stack) {
	t.Helper()
	poll := s.copies("POLL")
	post := func(i int) limitAnswer {
		return askAs(t, http.MethodPost, poll[i%2]+"/prices/poll", `{"symbols":["AAPL"],"interval":86400}`, "203.0.113.7")
	}
	for try := range 3 {
		before := time.Now() // the first admission is later than this
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
			require.Equal(t, http.StatusTooManyRequests, early.status, "a second earlier")
			require.Equal(t, 1, early.retryAfter)
			wait(time.Duration(refused.retryAfter) * time.Second)
			require.Equal(t, http.StatusAccepted, post(0).status)
			return
		}
		// This machine was too slow for what must be asked within a second: once more, with nothing in the window.
		require.Less(t, try, 2, "never in time")
		wait(time.Duration(refused.retryAfter+10) * time.Second)
	}
}

// budgetOfCopies asks for symbols that nobody knows, each for a client of its own: every one is a call of the provider, until
// the day's budget is spent.
func budgetOfCopies(t *testing.T, s *stack, latest []string) {
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
	require.Contains(t, string(metrics), `provider_budget_left{provider="yfinance",window="1d"} 0`)
}

// redisServer is a Redis of the test's own, which keeps nothing on disk.
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
	binary, err := exec.LookPath("redis-server")
	require.NoError(t, err, "install redis-server (Debian: apt-get install redis-server): this test stops and kills one")
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

// kill ends the server, its memory with it.
func (r *redisServer) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Kill())
	require.Error(t, r.cmd.Wait(), "killed")
}

// Redis stops answering, comes back with its memory, is killed and comes back without it. The window is so long that all
// of it lies in one.
func TestLimitsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := start(t, newDir(t), "COPIES=get-latest=3", "REDIS_URL=redis://"+server.addr+"/0", "RATE_LIMIT_TIMEOUT=2s",
		"RATE_LIMIT_LATEST=8/1h", "MAX_COPIES=4", "FINNHUB_BUDGET=24/1h", "TWELVE_DATA_BUDGET=7/1h,800/1d")
	latest := s.copies("GET_LATEST")
	const limit, copies, share = 8, 3, 2
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
	require.Equal(t, limit+copies*share, total)
	withoutRedis(t, s, latest)
	server.signal(t, syscall.SIGCONT)
	askedAgain(t, latest)
	require.Zero(t, countAnswers(floodAll(), degraded))
	require.Equal(t, limit+copies*share, total, "its memory was kept: the rule is exact again")

	server.kill(t)
	require.Equal(t, 45, countAnswers(floodAll(), degraded))
	require.Equal(t, limit+copies*share, total, "a copy's share is for the window, not for each outage")
	server.start(t)
	askedAgain(t, latest)
	require.Zero(t, countAnswers(floodAll(), degraded))
	require.Equal(t, 2*limit+copies*share, total, "its memory was lost: at most limit and shares more")
	require.Equal(t, limit, countAnswers(floodLatest(t, latest, 45, "203.0.113.9"), admitted), "exact again")
}

// withoutRedis is how the functions are while Redis does not answer.
func withoutRedis(t *testing.T, s *stack, latest []string) {
	t.Helper()
	created := askAs(t, http.MethodPost, s.env["POLL_URL"]+"/prices/poll", `{"symbols":["AAPL"]}`, "203.0.113.5")
	require.Equal(t, http.StatusServiceUnavailable, created.status, "creating jobs fails closed")
	require.Equal(t, "limiter_unavailable", created.code)
	require.Equal(t, 1, created.retryAfter)
	require.True(t, created.degraded)
	status, body, _ := call(t, http.MethodGet, latest[0]+"/readyz", "")
	require.Equal(t, http.StatusOK, status, "it answers, so it is ready")
	require.Contains(t, string(body), `"redis":"unavailable"`)
	_, metrics, _ := call(t, http.MethodGet, latest[0]+"/metrics", "")
	require.Contains(t, string(metrics), "limiter_degraded 1")
	require.Contains(t, string(metrics), `limiter_refusals_total{policy="latest"}`)
	require.Contains(t, s.out.String(), "redis is unavailable: this replica enforces its share of the limits")
	budgetsWithoutRedis(t, s, latest)
}

// budgetsWithoutRedis asks each replica for more than its share, which is an eighth: there are two functions of 4 replicas.
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

//go:build integration

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// clients is the number of concurrent requests.
const clients = 200

// The cache with three replicas. The subtests share one stack and run in order.
func TestCache(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=get-latest=3", "RATE_LIMIT_LATEST=10000/10ms", "PROVIDER_TIMEOUT=3s", "LOG_LEVEL=error")
	replicas := strings.Split(s.env["GET_LATEST_URLS"], ",")
	require.Len(t, replicas, 3)

	t.Run("one call for an expired price", func(t *testing.T) { oneCall(t, s, replicas) })          //nolint:paralleltest // in order
	t.Run("two calls if the holder is killed", func(t *testing.T) { killedHolder(t, s, replicas) }) //nolint:paralleltest // in order
	t.Run("one call every two seconds in an outage", func(t *testing.T) { outage(t, s, replicas) }) //nolint:paralleltest // in order
	t.Run("a silent Redis fails no request", func(t *testing.T) { silentRedis(t, s) })              //nolint:paralleltest // in order
	t.Run("polls fill the cache", func(t *testing.T) { pollFills(t, s) })                           //nolint:paralleltest // in order
	t.Run("batch and history through the gateway", func(t *testing.T) { batchAndHistory(t, s) })    //nolint:paralleltest // in order
}

// answer is the response to one client.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

// askAll sends one request for each client, to the replicas in turn, and calls during once all are in flight. A client whose
// connection breaks has the zero answer.
func askAll(t *testing.T, query string, replicas []string, during func()) []answer {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: 0}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var sent atomic.Int64
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent.Add(1) }}
	answers := make([]answer, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			ctx := httptrace.WithClientTrace(t.Context(), trace)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, replicas[i%len(replicas)]+"/prices/latest?"+query, nil)
			if err != nil {
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				return
			}
			defer resp.Body.Close() //nolint:errcheck // read whole
			answers[i].status, answers[i].header = resp.StatusCode, resp.Header
			_ = json.NewDecoder(resp.Body).Decode(&answers[i].body) // callers check the body
		})
	}
	if during != nil {
		require.Eventually(t, func() bool { return sent.Load() >= clients }, 10*time.Second, time.Millisecond)
		during()
	}
	wg.Wait()
	return answers
}

// redis returns a client of the stack's Redis.
func (s *stack) redis(t *testing.T) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(s.env["REDIS_URL"])
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// expire makes a cached price stale, as time would. The entry holds, in microseconds from bytes 59 and 79 on, when it was stored by
// Redis' clock and by the writer's.
func (s *stack) expire(t *testing.T, symbol string) {
	t.Helper()
	client, key := s.redis(t), "price:yfinance:"+symbol
	value, err := client.Get(t.Context(), key).Bytes()
	require.NoError(t, err, "a price is cached")
	for _, at := range []int{59, 79} {
		micros, err := strconv.ParseInt(string(value[at:at+20]), 10, 64)
		require.NoError(t, err)
		copy(value[at:], fmt.Sprintf("%020d", micros-(61*time.Second).Microseconds()))
	}
	require.NoError(t, client.Set(t.Context(), key, value, redis.KeepTTL).Err())
}

func oneCall(t *testing.T, s *stack, replicas []string) {
	t.Helper()
	status, _, old := call(t, http.MethodGet, replicas[0]+"/prices/latest?symbol=AAPL", "")
	require.Equal(t, http.StatusOK, status)
	s.expire(t, "AAPL")
	s.fault(t, "AAPL", "timeout", 1, 1500) // a slow response
	before := s.calls(t, "AAPL")
	answers := askAll(t, "symbol=AAPL", replicas, nil)
	require.Equal(t, before+1, s.calls(t, "AAPL"))
	for _, a := range answers {
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, answers[0].header.Get("ETag"), a.header.Get("ETag"))
		require.NotEqual(t, old.Get("ETag"), a.header.Get("ETag"))
		require.NotContains(t, a.body, "stale")
	}
	require.Equal(t, []string{"2"}, s.rows(t, "select count(*)::text from raw_responses where symbol = 'AAPL'"))
}

func killedHolder(t *testing.T, s *stack, replicas []string) {
	t.Helper()
	s.expire(t, "AAPL")
	s.fault(t, "AAPL", "timeout", 1, 2500)
	before := s.calls(t, "AAPL")
	go func() { // replica 0 fetches; this request fails when it is killed
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, replicas[0]+"/prices/latest?symbol=AAPL", nil)
		if err == nil {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	}()
	require.Eventually(t, func() bool { return s.calls(t, "AAPL") == before+1 }, 5*time.Second, 5*time.Millisecond)
	began := time.Now()
	answers := askAll(t, "symbol=AAPL", replicas, func() { s.kill(t, "get-latest", replicas[0]) })
	lost := 0
	for _, a := range answers {
		if a.status == 0 {
			lost++
			continue
		}
		require.Equal(t, http.StatusOK, a.status)
		require.NotContains(t, a.body, "stale")
	}
	require.LessOrEqual(t, lost, clients/3+1, "the requests to the killed replica")
	require.Equal(t, before+2, s.calls(t, "AAPL"))
	require.Less(t, time.Since(began), 12*time.Second, "one lease and one fetch")
	ready(t, replicas[0])
}

func outage(t *testing.T, s *stack, replicas []string) {
	t.Helper()
	s.expire(t, "AAPL")
	s.fault(t, "AAPL", "error_5xx", 0, 0)
	before := s.calls(t, "AAPL")
	for _, a := range askAll(t, "symbol=AAPL", replicas, nil) {
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, "STALE", a.header.Get("X-Cache"))
		require.Equal(t, true, a.body["stale"])
		require.Equal(t, "max-age=0", a.header.Get("Cache-Control"))
	}
	require.Equal(t, before+1, s.calls(t, "AAPL"))

	s.fault(t, "MSFT", "error_5xx", 0, 0) // not cached
	const rounds = 5 * time.Second
	began := time.Now()
	for time.Since(began) < rounds {
		for _, a := range askAll(t, "symbol=MSFT", replicas, nil) {
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.Equal(t, "provider_unavailable", a.body["code"])
			require.NotEmpty(t, a.header.Get("Retry-After"))
		}
	}
	calls := s.calls(t, "MSFT")
	require.GreaterOrEqual(t, calls, 2)
	require.LessOrEqual(t, calls, int(time.Since(began)/(2*time.Second))+1)
	s.healthy(t)
}

// silentRedis runs another replica, which reaches Redis through a proxy that can hold its traffic.
func silentRedis(t *testing.T, s *stack) {
	t.Helper()
	u, err := url.Parse(s.env["REDIS_URL"])
	require.NoError(t, err)
	link := newProxy(t, u.Host)
	u.Host = link.addr
	address := s.function(t, "get-latest", "REDIS_URL="+u.String(), "RATE_LIMIT_LATEST=10000/10ms", "LOG_LEVEL=error")
	ready(t, address)
	link.hold()
	began := time.Now()
	status, body, header := call(t, http.MethodGet, address+"/prices/latest?symbol=IBM", "")
	require.Equal(t, http.StatusOK, status, string(body))
	require.Equal(t, "MISS", header.Get("X-Cache"))
	require.Less(t, time.Since(began), 3*time.Second)
	link.release()
	require.Eventually(t, func() bool {
		status, _, header := call(t, http.MethodGet, address+"/prices/latest?symbol=IBM", "")
		return status == http.StatusOK && header.Get("X-Cache") == "HIT"
	}, 5*time.Second, 50*time.Millisecond)
}

func pollFills(t *testing.T, s *stack) {
	t.Helper()
	status, body, _ := call(t, http.MethodPost, s.env["POLL_URL"]+"/prices/poll", `{"symbols":["GOOG"],"interval":60}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusAccepted, status, string(body))
	cache := s.redis(t)
	require.Eventually(t, func() bool { return cache.Exists(t.Context(), "price:yfinance:GOOG").Val() == 1 }, 15*time.Second, 20*time.Millisecond)
	_, _, header := call(t, http.MethodGet, s.env["GET_LATEST_URL"]+"/prices/latest?symbol=GOOG", "")
	require.Equal(t, "HIT", header.Get("X-Cache"))
	require.Equal(t, 1, s.calls(t, "GOOG"))
}

func batchAndHistory(t *testing.T, s *stack) {
	t.Helper()
	status, v := s.get(t, "/prices/latest?symbols=aapl,GOOG,NOSUCH,AAPL&provider=auto")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, v["prices"], 2)
	require.Len(t, v["errors"], 1)
	require.Eventually(t, func() bool {
		status, v = s.get(t, "/prices/history?symbol=GOOG&start=2020-01-01&order=desc&limit=1")
		prices, _ := v["prices"].([]any)
		return status == http.StatusOK && len(prices) == 1 && v["next_page_token"] == nil
	}, 10*time.Second, 50*time.Millisecond)
}

package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
	"marketdata/shared/testenv/scrape"
)

// site is a function with one limited route, POST /things, that reaches Redis through a network.
type site struct {
	http    http.Handler
	srv     *service.Service
	routes  *api.API
	limiter *Limiter
	net     *network
	redis   *miniredis.Miniredis
	advance func(time.Duration)
	fail    error                 // returned by the route's handler
	seen    func(context.Context) // called by the handler
}

type question struct {
	Key  string `query:"key"`
	Body body
}

type answer struct{ Body body }

type body struct {
	N int `json:"n" minimum:"1"`
}

func newSite(t *testing.T, c Config, policies ...Policy) *site {
	t.Helper()
	s := &site{seen: func(context.Context) {}}
	var client *redis.Client
	s.redis, s.net, client, s.advance = newNetwork(t)
	if c.Timeout == 0 {
		c.Timeout = forever
	}
	c.MaxCopies = max(c.MaxCopies, 1)
	log := slog.New(slog.DiscardHandler)
	s.limiter = New(client, c, log)
	s.limiter.now = alwaysDue()
	t.Cleanup(func() { require.NoError(t, s.limiter.Close()) })
	s.srv = service.New(service.Config{}, log)
	s.routes = api.New(s.srv, "test", "")
	for i, p := range policies {
		api.Handle(s.routes, huma.Operation{OperationID: fmt.Sprint("post-", i), Method: http.MethodPost, Path: "/" + p.Name}, func(ctx context.Context, in *question) (*answer, error) {
			s.seen(ctx)
			return &answer{in.Body}, s.fail
		}, s.limiter.Middleware(p))
	}
	s.srv.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: 100, Handle: func(context.Context, ingress.Delivery) error { return nil }})
	s.http = s.srv.Handler()
	return s
}

func things(limit Limit) Policy { return Policy{Name: "things", Limit: limit} }

func (s *site) post(target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	s.http.ServeHTTP(w, r)
	return w
}

func TestHeadersFollowTheDraft(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{2, time.Minute}))
	require.Contains(t, scrape.Values(t, s.limiter.metrics.WritePrometheus), `marketdata_limiter_refusals_total{policy="things"}`, "from the start")
	w := s.post("/things", `{"n":1}`)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, `"things";q=2;w=60`, w.Header().Get("RateLimit-Policy"))
	require.Equal(t, `"things";r=1;t=60`, w.Header().Get("RateLimit"))
	require.Equal(t, "2", w.Header().Get("X-RateLimit-Limit"))
	require.Equal(t, "1", w.Header().Get("X-RateLimit-Remaining"))
	require.Equal(t, "60", w.Header().Get("X-RateLimit-Reset"))
	require.Empty(t, w.Header().Get("RateLimit-Mode"))
	require.Empty(t, w.Header().Get("Retry-After"))
	s.advance(10100 * time.Millisecond)
	require.Equal(t, `"things";r=0;t=50`, s.post("/things", `{"n":1}`).Header().Get("RateLimit"))
	w = s.post("/things", `{"n":1}`)
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "rate_limited", call.Problem(t, w).Code)
	require.Regexp(t, `\b2\b.*\b1m\b`, call.Problem(t, w).Detail, "it names the limit")
	require.Equal(t, "50", w.Header().Get("Retry-After"), "49.9 s, rounded up")
	require.Equal(t, `"things";r=0;t=50`, w.Header().Get("RateLimit"))
	require.Equal(t, "50", w.Header().Get("X-RateLimit-Reset"))
	require.InDelta(t, 1, valueOf(t, s.limiter, "marketdata_limiter_refusals_total"), 0)
}

// Every request of a limited route counts once, whatever its response, and every response has the headers.
func TestEveryRoutedRequestCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{100, time.Minute}))
	left := 100
	for name, c := range map[string]struct {
		target, body string
		header       []string
		fail         error
		status       int
	}{
		"served":            {"/things", `{"n":1}`, nil, nil, 200},
		"invalid body":      {"/things", `{"n":0}`, nil, nil, 400},
		"invalid JSON":      {"/things", `{`, nil, nil, 400},
		"unknown parameter": {"/things?x=1", `{"n":1}`, nil, nil, 400},
		"media type":        {"/things", `{"n":1}`, []string{"Content-Type", "text/xml"}, nil, 415},
		"too large":         {"/things", strings.Repeat(" ", 2<<20), nil, nil, 413},
		"not found":         {"/things", `{"n":1}`, nil, fault.New(fault.NotFound, "symbol_not_found", "x"), 404},
		"unavailable":       {"/things", `{"n":1}`, nil, fault.New(fault.Unavailable, "provider_unavailable", "x"), 503},
		"unknown error":     {"/things", `{"n":1}`, nil, errors.New("x"), 500},
	} {
		s.fail = c.fail
		w := s.post(c.target, c.body, c.header...)
		left--
		require.Equal(t, c.status, w.Code, name)
		require.Equal(t, `"things";q=100;w=60`, w.Header().Get("RateLimit-Policy"), name)
		require.Equal(t, strconv.Itoa(left), w.Header().Get("X-RateLimit-Remaining"), name)
	}
	s.fail = nil
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/healthz", 200},
		{"GET", "/readyz", 200},
		{"GET", "/metrics", 200},
		{"GET", "/openapi.json", 200},
		{"GET", "/docs/", 200},
		{"GET", "/_/health", 200},
		{"GET", "/nothing", 404},
		{"DELETE", "/things", 405},
		{"POST", "/", 204},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, c.path, strings.NewReader("{}"))
		for name, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"} {
			r.Header.Set(name, v)
		}
		s.http.ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, c.path)
		require.Empty(t, w.Header().Get("RateLimit"), c.path)
	}
	require.Equal(t, strconv.Itoa(left-1), s.post("/things", `{"n":1}`).Header().Get("X-RateLimit-Remaining"))
}

// Random arrivals of one client over HTTP: at most five are served in any window of a minute. A request after Retry-After seconds
// is served; one a second earlier is refused.
func TestRetryAfterIsExactThroughHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{5, time.Minute}))
	rng := rand.New(rand.NewPCG(5, 60))
	now, m := start, model{}
	pass := func(d time.Duration) {
		s.advance(d)
		now = now.Add(d)
	}
	post := func() *httptest.ResponseRecorder {
		w := s.post("/things", `{"n":1}`)
		if w.Code == http.StatusOK {
			m.admitted = append(m.admitted, now)
		}
		return w
	}
	refused := 0
	for range 300 {
		w := post()
		if w.Code == http.StatusTooManyRequests {
			refused++
			require.Equal(t, 5, m.inWindow(now, time.Minute), "no needless refusal")
			wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
			require.NoError(t, err)
			pass(time.Duration(wait-1) * time.Second)
			require.Equal(t, http.StatusTooManyRequests, post().Code)
			pass(time.Second)
			require.Equal(t, http.StatusOK, post().Code)
		}
		pass(time.Duration(rng.Int64N(int64(20 * time.Second))).Truncate(time.Microsecond))
	}
	require.Greater(t, refused, 20)
	m.noWindowHoldsMore(t, Limit{5, time.Minute})
}

func TestRedisUnavailable(t *testing.T) {
	t.Parallel()
	closed := Policy{Name: "closed", Limit: Limit{4, time.Minute}, FailClosed: true}
	s := newSite(t, Config{MaxCopies: 2}, things(Limit{4, time.Minute}), closed)
	s.net.set(true, false)
	for range 2 {
		w := s.post("/things", `{"n":1}`)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "degraded", w.Header().Get("RateLimit-Mode"))
		require.Equal(t, `"things";q=4;w=60`, w.Header().Get("RateLimit-Policy"))
	}
	w := s.post("/things", `{"n":1}`)
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "degraded", w.Header().Get("RateLimit-Mode"))
	require.Equal(t, "60", w.Header().Get("Retry-After"))

	w = s.post("/closed", `{"n":1}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "limiter_unavailable", call.Problem(t, w).Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, `"closed";r=0;t=1`, w.Header().Get("RateLimit"))
	require.Equal(t, "degraded", w.Header().Get("RateLimit-Mode"))

	s.net.set(false, false)
	w = s.post("/closed", `{"n":1}`)
	require.Equal(t, http.StatusOK, w.Code)
	require.Empty(t, w.Header().Get("RateLimit-Mode"))
	require.Equal(t, "3", w.Header().Get("X-RateLimit-Remaining"))
}

func TestReadsShareTheRoundTrip(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{10, time.Minute}))
	require.NoError(t, s.limiter.Warm(t.Context()))
	require.NoError(t, s.redis.Set("k", "cached"))
	gate := s.limiter.Gate(Policy{Name: "ridden", Limit: Limit{2, time.Minute}})
	admit := func(key string) (got *redis.StringCmd, ok bool) {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		client, ok := gate.Admit(w, r, func(p redis.Pipeliner) { got = p.Get(r.Context(), key) })
		require.Equal(t, "192.0.2.1", client)
		require.Equal(t, `"ridden";q=2;w=60`, w.Header().Get("RateLimit-Policy"))
		if !ok {
			require.Equal(t, "rate_limited", call.Problem(t, w).Code)
		}
		return got, ok
	}
	before := s.net.writes.Load()
	got, ok := admit("k")
	require.True(t, ok)
	require.NoError(t, got.Err())
	require.Equal(t, "cached", got.Val())
	require.EqualValues(t, 1, s.net.writes.Load()-before, "one round trip")
	got, ok = admit("none")
	require.True(t, ok)
	require.ErrorIs(t, got.Err(), redis.Nil)
	_, ok = admit("k")
	require.False(t, ok)

	gate = s.limiter.Gate(Policy{Name: "ridden", Limit: Limit{2, time.Minute}})
	s.advance(time.Minute)
	for _, mute := range []bool{true, false} { // unavailable, and then known to be
		s.net.set(true, mute)
		got, ok = admit("k")
		require.True(t, ok)
		require.Error(t, got.Err())
		require.NotErrorIs(t, got.Err(), redis.Nil, "an error is not a missing key")
	}
}

func TestHandlersKnowTheClient(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{10, time.Minute}))
	var client string
	s.seen = func(ctx context.Context) { client = Client(ctx) }
	require.Equal(t, http.StatusOK, s.post("/things", `{"n":1}`).Code)
	require.Equal(t, "192.0.2.1", client)

	s = newSite(t, Config{TrustedProxies: "192.0.2.0/24"}, things(Limit{10, time.Minute}))
	s.seen = func(ctx context.Context) { client = Client(ctx) }
	require.Equal(t, http.StatusOK, s.post("/things", `{"n":1}`, "X-Forwarded-For", "198.51.100.7").Code)
	require.Equal(t, "198.51.100.7", client)
}

func TestOpenAPIDocumentsWhatTheLimiterAdds(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{2, time.Minute}))
	s.routes.Explain("post-0", api.Doc{})
	s.routes.Document(Document)
	op := s.routes.OpenAPI().Paths["/things"].Post
	for _, status := range []string{"200", "400", "401", "429", "500", "503"} {
		require.Contains(t, op.Responses, status)
		require.Contains(t, op.Responses[status].Headers, "RateLimit", status)
	}
	require.Contains(t, op.Responses["429"].Headers, "Retry-After")
	require.Contains(t, op.Responses["429"].Content, "application/problem+json")
	require.Equal(t, []map[string][]string{{}, {"api_key": {}}}, op.Security)
	text, err := json.Marshal(s.routes.OpenAPI())
	require.NoError(t, err)
	require.Contains(t, string(text), `"X-API-Key"`)
}

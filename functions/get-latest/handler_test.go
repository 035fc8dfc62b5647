package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/service"
)

// fakeFetch counts calls by series and answers with fetch.
type fakeFetch struct {
	mu    sync.Mutex
	calls map[string]int
	fetch func(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error)
}

func (f *fakeFetch) Fetch(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
	f.mu.Lock()
	f.calls[provider+" "+string(symbol)]++
	fetch := f.fetch
	f.mu.Unlock()
	return fetch(ctx, provider, symbol)
}

func (f *fakeFetch) Known(p string) bool {
	return slices.Contains([]string{"yfinance", "finnhub", "binance"}, p)
}

func (f *fakeFetch) count(series string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[series]
}

var rawID = uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")

func resultOf(t *testing.T, provider string, symbol market.Symbol, price string) ingest.Result {
	t.Helper()
	p, err := market.ParsePrice(price)
	require.NoError(t, err)
	return ingest.Result{RawResponseID: rawID, Quote: market.Quote{
		Symbol: symbol, Provider: provider, Price: p, ObservedAt: time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC),
	}}
}

// openGate admits every request, and runs the caller's reads in a pipeline as the limiter does.
type openGate struct {
	client *redis.Client
	ridden int // commands in the last pipeline
}

func (g *openGate) Admit(_ http.ResponseWriter, r *http.Request, ride func(redis.Pipeliner)) (client string, ok bool) {
	p := g.client.Pipeline()
	if ride != nil {
		ride(p)
	}
	g.ridden = p.Len()
	_, _ = p.Exec(r.Context()) // each command keeps its own error
	return "", true
}

type bundle struct {
	gate    *openGate
	fetch   *fakeFetch
	redis   *miniredis.Miniredis
	clock   time.Time // Redis' clock
	client  *redis.Client
	handler *handler
	service *service.Service
	routes  *api.API
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{redis: miniredis.RunT(t), clock: time.Now(), fetch: &fakeFetch{calls: map[string]int{}}}
	b.redis.SetTime(b.clock)
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		return resultOf(t, provider, symbol, "150.250000000000000001"), nil
	}
	b.client = redis.NewClient(&redis.Options{Addr: b.redis.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1})
	t.Cleanup(func() { require.NoError(t, b.client.Close()) })
	log := slog.New(slog.DiscardHandler)
	cache := pricecache.New(b.client, "price:", time.Minute, 10*time.Minute)
	flights := flight.New(b.client, "flight:", cache, b.fetch.Fetch, time.Second, log)
	t.Cleanup(flights.Close)
	b.service = service.New(service.Config{}, log)
	b.gate = &openGate{client: b.client}
	b.handler = &handler{
		gate:   b.gate,
		prices: &prices{cache, flights, []string{"yfinance", "finnhub", "binance"}, log, newLookups(b.service.Metrics)},
		known:  b.fetch.Known, defaultProvider: "yfinance",
	}
	b.routes = api.New(b.service, "get-latest", "")
	b.handler.routes(b.routes)
	return b
}

// failing makes providers fail with errs; the others return a price.
func (b *bundle) failing(t *testing.T, errs map[string]error) {
	t.Helper()
	b.fetch.mu.Lock()
	defer b.fetch.mu.Unlock()
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		if err := errs[provider]; err != nil {
			return ingest.Result{}, err
		}
		return resultOf(t, provider, symbol, "7"), nil
	}
}

// later moves Redis' clock forward.
func (b *bundle) later(d time.Duration) {
	b.clock = b.clock.Add(d)
	b.redis.SetTime(b.clock)
	b.redis.FastForward(d)
}

func (b *bundle) get(t *testing.T, target string, header ...string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	b.service.Handler().ServeHTTP(w, r)
	var body map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
	}
	return w, body
}

func outage(code string) error {
	return fault.New(fault.Unavailable, code, "x").After(1500 * time.Millisecond)
}

var notFound = fault.New(fault.NotFound, "symbol_not_found", "x")

func TestMissReturnsTheDocumentedBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.get(t, "/prices/latest?symbol=aapl&provider=yfinance")
	require.Equal(t, http.StatusOK, w.Code)
	//nolint:testifylint // byte for byte: JSONEq would convert the digits to float64
	require.Equal(t, `{"symbol":"AAPL","price":150.250000000000000001,"timestamp":"2024-03-20T10:30:00Z","provider":"yfinance"}`+"\n", w.Body.String())
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "MISS", w.Header().Get("X-Cache"))
	require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"))
	require.Equal(t, "0", w.Header().Get("Age"))
	require.Equal(t, `"`+rawID.String()+`"`, w.Header().Get("ETag"))
}

func TestHitNeverFetches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=AAPL")
	b.later(50500 * time.Millisecond)
	w, body := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.InDelta(t, 150.25, body["price"], 0.001)
	require.Equal(t, "HIT", w.Header().Get("X-Cache"))
	require.Equal(t, "50", w.Header().Get("Age"))
	require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"), "caches subtract Age themselves")
	require.Equal(t, 1, b.fetch.count("yfinance AAPL"))
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	tag := w.Header().Get("ETag")
	for name, lines := range map[string][]string{
		"alone": {tag}, "weak": {"W/" + tag}, "any": {"*"}, "in a list": {`"a,b" , W/"c",` + tag + `, "d"`}, "on a second line": {`"a"`, tag},
	} {
		var header []string
		for _, l := range lines {
			header = append(header, "If-None-Match", l)
		}
		w, _ := b.get(t, "/prices/latest?symbol=AAPL", header...)
		require.Equal(t, http.StatusNotModified, w.Code, name)
		require.Empty(t, w.Body.String(), name)
		require.Equal(t, tag, w.Header().Get("ETag"), name)
		require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"), name)
	}
	for _, line := range []string{`"other"`, strings.Trim(tag, `"`), `"` + tag, "junk, " + tag, "W/", `"`, ",,", "*x", `"a", *`} {
		w, _ := b.get(t, "/prices/latest?symbol=AAPL", "If-None-Match", line)
		require.Equal(t, http.StatusOK, w.Code, line)
	}
}

func TestOldPriceIsMarkedStale(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=AAPL")
	b.later(90 * time.Second)
	for _, code := range []string{"provider_timeout", "provider_unavailable", "provider_rate_limited", "provider_malformed", "provider_auth"} {
		b.failing(t, map[string]error{"yfinance": outage(code)})
		w, body := b.get(t, "/prices/latest?symbol=AAPL")
		require.Equal(t, http.StatusOK, w.Code, code)
		require.Equal(t, "STALE", w.Header().Get("X-Cache"))
		require.Equal(t, true, body["stale"])
		require.Equal(t, "max-age=0", w.Header().Get("Cache-Control"))
		require.GreaterOrEqual(t, w.Header().Get("Age"), "90")
		require.Equal(t, `"`+rawID.String()+`-stale"`, w.Header().Get("ETag"), "the body differs from the fresh one")
		b.later(2 * time.Second)
	}
	b.failing(t, map[string]error{"yfinance": notFound})
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusNotFound, w.Code, "an unknown symbol is not an outage")
	b.later(2 * time.Second)
	b.failing(t, map[string]error{"yfinance": outage("storage_unavailable")})
	w, _ = b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "an error of our own storage")
	b.later(10 * time.Minute)
	b.failing(t, map[string]error{"yfinance": outage("provider_timeout")})
	w, _ = b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusGatewayTimeout, w.Code, "older than STALE_TTL")
}

func TestCacheErrorFailsNoRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.redis.Close()
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "max-age=0", w.Header().Get("Cache-Control"))
	w, body := b.get(t, "/prices/latest?symbols=AAPL,MSFT")
	require.Equal(t, http.StatusOK, w.Code)
	require.Len(t, body["prices"], 2)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		query  string
		err    error
		status int
		code   string
	}{
		"no symbol":         {"", nil, 400, "invalid_parameter"},
		"empty symbol":      {"symbol=", nil, 400, "invalid_parameter"},
		"both":              {"symbol=AAPL&symbols=MSFT", nil, 400, "invalid_parameter"},
		"too many":          {"symbols=A" + strings.Repeat(",A", 50), nil, 400, "invalid_parameter"},
		"long symbol":       {"symbol=" + strings.Repeat("A", 33), nil, 400, "invalid_symbol"},
		"bad symbol":        {"symbol=A%20B", nil, 400, "invalid_symbol"},
		"unknown parameter": {"symbol=AAPL&x=1", nil, 400, "invalid_parameter"},
		"unknown provider":  {"symbol=AAPL&provider=nobody", nil, 400, "unknown_provider"},
		"not found":         {"symbol=AAPL", notFound, 404, "symbol_not_found"},
		"malformed":         {"symbol=AAPL", outage("provider_malformed"), 502, "provider_malformed"},
		"auth":              {"symbol=AAPL", outage("provider_auth"), 502, "provider_auth"},
		"rate limited":      {"symbol=AAPL", outage("provider_rate_limited"), 503, "provider_rate_limited"},
		"unavailable":       {"symbol=AAPL", outage("provider_unavailable"), 503, "provider_unavailable"},
		"timeout":           {"symbol=AAPL", outage("provider_timeout"), 504, "provider_timeout"},
		"storage":           {"symbol=AAPL", outage("storage_unavailable"), 503, "storage_unavailable"},
		"unknown error":     {"symbol=AAPL", errors.New("password=hunter2"), 500, "internal"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.failing(t, map[string]error{"yfinance": c.err})
			for range 2 { // the second time with the state that the first request left
				w, body := b.get(t, "/prices/latest?"+c.query, "X-Request-ID", "abc")
				require.Equal(t, c.status, w.Code, w.Body.String())
				require.Equal(t, c.code, body["code"])
				require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
				require.Equal(t, "abc", body["request_id"])
				require.InDelta(t, c.status, body["status"], 0)
				require.NotContains(t, w.Body.String(), "hunter2")
				if c.status == 503 {
					require.Equal(t, "2", w.Header().Get("Retry-After"), "rounded up")
				}
			}
			require.LessOrEqual(t, b.fetch.count("yfinance AAPL"), 1)
		})
	}
}

// The OpenAPI document has every status of the route, with its codes.
func TestDocumentNamesEveryCode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text := ""
	for status, r := range b.routes.OpenAPI().Paths["/prices/latest"].Get.Responses {
		text += status + " " + r.Description + "\n"
	}
	for _, code := range []string{
		"invalid_symbol", "unknown_provider", "invalid_parameter", "symbol_not_found", "rate_limited", "provider_malformed", "provider_auth",
		"provider_rate_limited", "provider_unavailable", "provider_timeout", "storage_unavailable",
	} {
		require.Contains(t, text, code)
	}
	document, err := json.Marshal(b.routes.OpenAPI())
	require.NoError(t, err)
	require.Contains(t, string(document), `"oneOf":[{"$ref":"#/components/schemas/GetLatestPriceBody"},{"$ref":"#/components/schemas/GetLatestBatchBody"}]`)
	require.Contains(t, string(document), `"enum":["yfinance","alpha_vantage","finnhub","twelve_data","binance","coinbase","auto"]`)
	require.Equal(t, market.SymbolPattern, api.Parameter(b.routes.OpenAPI(), "/prices/latest", "symbol").Pattern)
}

func TestAutoReturnsTheFirstPriceOfTheChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, body := b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "yfinance", body["provider"])
	require.NotContains(t, body, "fallback_from")
	plain := w.Header().Get("ETag")

	b.later(time.Minute)
	b.failing(t, map[string]error{"yfinance": outage("provider_timeout"), "finnhub": notFound})
	w, body = b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "MISS", w.Header().Get("X-Cache"))
	require.Equal(t, "binance", body["provider"])
	require.Equal(t, "yfinance", body["fallback_from"])
	require.Equal(t, "provider_timeout", body["fallback_reason"])
	require.NotContains(t, body, "stale", "a fresh price of another provider wins over an old one of the first")
	require.NotEqual(t, plain, w.Header().Get("ETag"), "the body differs")

	w, body = b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
	require.Equal(t, "HIT", w.Header().Get("X-Cache"))
	require.Equal(t, "binance", body["provider"])
	require.Equal(t, "yfinance", body["fallback_from"])
	require.Equal(t, 2, b.fetch.count("yfinance AAPL"), "its error is shared for 2 s")
	require.Equal(t, 1, b.fetch.count("binance AAPL"))

	b.later(2 * time.Minute)
	b.failing(t, map[string]error{"yfinance": notFound, "finnhub": outage("provider_unavailable"), "binance": outage("provider_auth")})
	w, body = b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
	require.Equal(t, "STALE", w.Header().Get("X-Cache"))
	require.Equal(t, "yfinance", body["provider"], "the first provider of the chain with a cached price")
	require.Equal(t, true, body["stale"])
	require.NotContains(t, body, "fallback_from")
}

func TestAutoReturnsTheMostUsefulError(t *testing.T) {
	t.Parallel()
	auth, malformed, limited, away := outage("provider_auth"), outage("provider_malformed"), outage("provider_rate_limited"), outage("provider_unavailable")
	cases := map[string]struct {
		errs []error
		code string
	}{
		"no provider has the symbol":        {[]error{notFound, notFound, notFound}, "symbol_not_found"},
		"a retryable error over not found":  {[]error{notFound, limited, notFound}, "provider_rate_limited"},
		"not found over auth and malformed": {[]error{auth, notFound, malformed}, "symbol_not_found"},
		"malformed over auth":               {[]error{auth, malformed, auth}, "provider_malformed"},
		"the first of equals":               {[]error{away, limited, auth}, "provider_unavailable"},
		"a storage error ends the chain":    {[]error{notFound, outage("storage_unavailable"), away}, "storage_unavailable"},
		"an unknown error ranks no higher":  {[]error{auth, auth, errors.New("defect")}, "provider_auth"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.failing(t, map[string]error{"yfinance": c.errs[0], "finnhub": c.errs[1], "binance": c.errs[2]})
			_, body := b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
			require.Equal(t, c.code, body["code"])
		})
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=MSFT")
	b.later(10 * time.Second)
	w, body := b.get(t, "/prices/latest?symbols=aapl,MSFT,AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.Len(t, body["prices"], 2)
	require.Empty(t, body["errors"])
	require.Contains(t, w.Body.String(), `"AAPL":{"symbol":"AAPL","price":150.250000000000000001,`)
	require.Equal(t, "MISS", w.Header().Get("X-Cache"))
	require.Equal(t, "10", w.Header().Get("Age"))
	require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"))
	w, _ = b.get(t, "/prices/latest?symbols=aapl,MSFT,AAPL", "If-None-Match", w.Header().Get("ETag"))
	require.Equal(t, http.StatusNotModified, w.Code)
	require.Equal(t, "HIT", w.Header().Get("X-Cache"))
	require.Equal(t, 1, b.fetch.count("yfinance AAPL"))
	require.Equal(t, 1, b.fetch.count("yfinance MSFT"))
}

// X-Cache of a batch is the worst of its symbols; a symbol without a price counts as a miss.
func TestXCacheOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbols=OLD,OLDER")
	b.later(2 * time.Minute)
	b.get(t, "/prices/latest?symbols=HOT,WARM")
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		if symbol != "NEW" {
			return ingest.Result{}, outage("provider_timeout")
		}
		return resultOf(t, provider, symbol, "7"), nil
	}
	for symbols, want := range map[string]string{
		"HOT,WARM": "HIT", "HOT,NEW": "MISS", "HOT,OLD,WARM": "STALE", "OLD,AWAY": "STALE", "HOT,A%20B": "MISS", "A%20B": "MISS", "AWAY,GONE": "MISS",
	} {
		w, _ := b.get(t, "/prices/latest?symbols="+symbols)
		require.Equal(t, http.StatusOK, w.Code, symbols)
		require.Equal(t, want, w.Header().Get("X-Cache"), symbols)
	}
}

// A cache between us and the client keeps an answer until max-age minus Age has passed (RFC 9111 section 4.2).
func TestMaxAgeCountsFromTheFetch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbols=AAPL,MSFT")
	for _, step := range []time.Duration{0, 35 * time.Second, 24900 * time.Millisecond} {
		b.later(step)
		for _, query := range []string{"symbol=AAPL", "symbol=AAPL&provider=%79finance", "symbols=AAPL,MSFT"} {
			w, _ := b.get(t, "/prices/latest?"+query)
			require.Equal(t, "HIT", w.Header().Get("X-Cache"))
			require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"))
		}
	}
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, "59", w.Header().Get("Age"))
}

// If clients need an API key, a shared cache must not answer clients without one.
func TestAnswersArePrivateIfKeysAreNeeded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.handler.private = true
	for _, query := range []string{"symbol=AAPL", "symbol=AAPL", "symbols=AAPL,MSFT", "symbols=A%20B"} { // a miss, a hit, a batch, errors
		w, _ := b.get(t, "/prices/latest?"+query)
		require.Regexp(t, "^private, max-age=(60|0)$", w.Header().Get("Cache-Control"), query)
	}
	w, _ := b.get(t, "/prices/latest?symbol=AAPL", "If-None-Match", "*")
	require.Equal(t, "private, max-age=60", w.Header().Get("Cache-Control"))
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := httptest.NewServer(b.service.Handler())
	t.Cleanup(server.Close)
	for _, want := range []string{"MISS", "HIT"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+"/prices/latest?symbol=AAPL", nil)
		require.NoError(t, err)
		resp, err := server.Client().Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Empty(t, body)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, want, resp.Header.Get("X-Cache"))
		require.Equal(t, `"`+rawID.String()+`"`, resp.Header.Get("ETag"))
	}
}

func TestBadSymbolDoesNotFailOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		switch symbol {
		case "NONE":
			return ingest.Result{}, notFound
		case "AWAY":
			return ingest.Result{}, outage("provider_timeout")
		}
		return resultOf(t, provider, symbol, "7"), nil
	}
	w, body := b.get(t, "/prices/latest?symbols=AAPL,NONE,A%20B,,AWAY", "X-Request-ID", "abc")
	require.Equal(t, http.StatusOK, w.Code)
	require.Len(t, body["prices"], 1)
	errs, ok := body["errors"].(map[string]any)
	require.True(t, ok)
	for symbol, code := range map[string]string{"NONE": "symbol_not_found", "A B": "invalid_symbol", "": "invalid_symbol", "AWAY": "provider_timeout"} {
		problem, ok := errs[symbol].(map[string]any)
		require.True(t, ok, symbol)
		require.Equal(t, code, problem["code"])
		require.Equal(t, "abc", problem["request_id"])
		require.NotEmpty(t, problem["title"])
	}
	require.Equal(t, "max-age=0", w.Header().Get("Cache-Control"))
	require.Empty(t, w.Header().Get("ETag"))
}

func TestBatchIsFetchedConcurrently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mu sync.Mutex
	running, most := 0, 0
	all := make(chan struct{})
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		mu.Lock()
		running++
		if most = max(most, running); running == batchConcurrency {
			close(all)
			running = -1000 // close only once
		}
		mu.Unlock()
		<-all
		return resultOf(t, provider, symbol, "7"), nil
	}
	symbols := make([]string, maxSymbols)
	for i := range symbols {
		symbols[i] = fmt.Sprint("S", i)
	}
	_, body := b.get(t, "/prices/latest?symbols="+strings.Join(symbols, ","))
	require.Len(t, body["prices"], maxSymbols)
	require.Equal(t, batchConcurrency, most)
}

func TestHitIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbols=AAPL,MSFT")
	for query, commands := range map[string]int{"symbol=aapl": 2, "provider=auto&symbol=AAPL": 2, "symbols=AAPL,MSFT": 3} {
		before := b.redis.CommandCount()
		w, _ := b.get(t, "/prices/latest?"+query)
		require.Equal(t, "HIT", w.Header().Get("X-Cache"), query)
		require.Equal(t, commands, b.gate.ridden, query)
		require.Equal(t, commands, b.redis.CommandCount()-before, query)
	}
	for _, query := range []string{"", "symbol=", "symbol=A%20B", "symbol=AAPL&provider=nobody", "symbols=A%20B", "symbols=A" + strings.Repeat(",A", 50)} {
		b.get(t, "/prices/latest?"+query)
		require.Zero(t, b.gate.ridden, query)
	}
}

func TestLookupsAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=AAPL")
	b.get(t, "/prices/latest?symbols=AAPL,AAPL")
	b.later(time.Minute)
	b.failing(t, map[string]error{"yfinance": outage("provider_timeout")})
	b.get(t, "/prices/latest?symbol=AAPL")
	b.get(t, "/prices/latest?symbol=MSFT")
	w := httptest.NewRecorder()
	b.service.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for result, n := range map[string]int{"hit": 1, "miss": 2, "stale": 1} {
		require.Contains(t, w.Body.String(), fmt.Sprintf("price_lookups_total{result=%q} %d\n", result, n))
	}
}

// The hand-written parser refuses all requests that the OpenAPI document refuses. Others are refused only by rules that the document
// cannot express.
func TestRequestsAreParsedAsDocumented(t *testing.T) {
	t.Parallel()
	b := setup(t)
	documented := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	api.Handle(api.New(documented, "get-latest", ""), latestOperation, func(context.Context, *latestQuery) (*struct{}, error) { return &struct{}{}, nil })
	ask := func(h http.Handler, query, held string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/prices/latest", nil)
		r.URL.RawQuery = query
		if held != "" {
			r.Header.Set("If-None-Match", held)
		}
		h.ServeHTTP(w, r)
		return w
	}
	beyond := map[string]string{ // requests that only our parser refuses, with the code
		"": "invalid_parameter", "symbol=AAPL&symbols=MSFT": "invalid_parameter", "symbol=A+B": "invalid_symbol", "symbol=AAPL&provider=nobody": "unknown_provider",
		"symbol=" + strings.Repeat("A", 33): "invalid_symbol", "symbols=AAPL&provider=AUTO": "unknown_provider",
	}
	queries := slices.AppendSeq([]string{
		"symbol=AAPL", "symbol=aapl", "symbol=AAPL&provider=yfinance", "provider=yfinance&symbol=MSFT", "symbol=AAPL&", "&symbol=AAPL", "symbol=A%41PL",
		"symbol=AAPL&symbol=AAPL", "symbol=AAPL&symbol=", "symbol=AAPL&provider=", "symbol=AAPL&provider", "symbol=AAPL&provider=auto",
		"symbol=AAPL&provider=yfinance&provider=yfinance", "symbol=AAPL&x=1", "symbol=AAPL;x=1", "symbol=", "symbol", "=", "symbols=AAPL", "symbols=AAPL,MSFT",
		"symbols=AAPL,,A+B", "symbols=AAPL%2CMSFT", "symbols=A" + strings.Repeat(",A", 49), "symbols=A" + strings.Repeat(",A", 50), "symbols=AAPL&symbols=MSFT",
		"SYMBOL=AAPL", "symbol=AAPL=", "bol=AAPL&symbol=AAPL", "symbol=%zz", "symbol=%ff", "symbol=%00", "symbols=%00", "symbol=AAPL&%00=1",
	}, maps.Keys(beyond))
	for _, query := range queries {
		for _, held := range []string{"", "*", `"other"`, "\xff"} {
			got, want := ask(b.service.Handler(), query, held), ask(documented.Handler(), query, held)
			var problem struct{ Code string }
			if got.Code == http.StatusBadRequest {
				require.NoError(t, json.Unmarshal(got.Body.Bytes(), &problem))
			}
			switch code := beyond[query]; {
			case want.Code == http.StatusBadRequest:
				require.Equal(t, "invalid_parameter", problem.Code, "%q %q", query, held)
			case code != "":
				require.Equal(t, code, problem.Code, "%q %q", query, held)
			default:
				require.Contains(t, []int{http.StatusOK, http.StatusNotModified}, got.Code, "%q %q", query, held)
			}
		}
	}
}

// The hand-written encoder and encoding/json agree byte for byte.
func TestPriceIsEncodedAsByTheLibrary(t *testing.T) {
	t.Parallel()
	pick := func(of ...string) string { return of[rand.IntN(len(of))] }
	for range 2000 {
		b := priceBody{
			Symbol: pick("AAPL", "^GSPC", "BTC-USD", "EUR=X", "BINANCE:BTCUSDT", "BTC/USD"), Provider: pick("yfinance", "alpha_vantage"),
			Price:     api.Number(pick("150.25", "0.000000000000000001", "99999999999999999999", "1")),
			Timestamp: time.UnixMicro(rand.Int64N(4e15)).UTC().Truncate([]time.Duration{1, time.Millisecond, time.Second, time.Hour}[rand.IntN(4)]),
			Currency:  pick("", "USD", "GBp", "a\"b", "<x>", "€", "\xff", "\u2028", "U S"), Stale: rand.IntN(2) == 0,
			FallbackFrom: pick("", "finnhub"), FallbackReason: pick("", "provider_timeout"),
		}
		want, err := json.Marshal(b)
		require.NoError(t, err)
		got, err := encode(b)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

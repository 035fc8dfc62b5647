package latest

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
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

// openGate admits every request unless it is shut, and runs the caller's reads in a pipeline as the limiter does.
type openGate struct {
	client *redis.Client
	shut   bool
	ridden int // commands in the last pipeline
}

func (g *openGate) Admit(w http.ResponseWriter, r *http.Request, ride func(redis.Pipeliner)) (client string, ok bool) {
	p := g.client.Pipeline()
	if ride != nil {
		ride(p)
	}
	g.ridden = p.Len()
	_, _ = p.Exec(r.Context()) // each command keeps its own error
	if g.shut {
		w.WriteHeader(http.StatusTooManyRequests)
	}
	return "", !g.shut
}

type bundle struct {
	gate    *openGate
	fetch   *fakeFetch
	redis   *miniredis.Miniredis
	clock   time.Time // Redis' clock
	client  *redis.Client
	api     *API
	service *service.Service
	routes  *api.API
	log     bytes.Buffer
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
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	cache := pricecache.New(b.client, "price:", time.Minute, 10*time.Minute)
	flights := flight.New(b.client, "flight:", cache, b.fetch.Fetch, time.Second, log)
	t.Cleanup(flights.Close)
	b.service = service.New(service.Config{}, slog.New(slog.DiscardHandler))
	b.gate = &openGate{client: b.client}
	b.api = New(Config{
		Gate: b.gate, Cache: cache, Flights: flights, Chain: []string{"yfinance", "finnhub", "binance"}, Log: log, Metrics: b.service.Metrics,
		Known: b.fetch.Known, DefaultProvider: "yfinance",
	})
	b.routes = api.New(b.service, "get-latest", "")
	b.api.Routes(b.routes)
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

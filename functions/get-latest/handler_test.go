package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/service"
)

type fakeFetch struct {
	calls atomic.Int64
	fetch func(ctx context.Context) (ingest.Result, error)
}

func (f *fakeFetch) Fetch(ctx context.Context, _ string, _ market.Symbol) (ingest.Result, error) {
	f.calls.Add(1)
	return f.fetch(ctx)
}

func (f *fakeFetch) Known(p string) bool { return p == "yfinance" }

type fakeCache struct {
	mu       sync.Mutex
	entry    pricecache.Entry
	found    bool
	err      error
	putEntry *pricecache.Entry
}

func (c *fakeCache) Get(context.Context, string, market.Symbol) (pricecache.Entry, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entry, c.found, c.err
}

func (c *fakeCache) Put(_ context.Context, q market.Quote, id uuid.UUID) (pricecache.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return pricecache.Entry{}, c.err
	}
	if c.putEntry != nil {
		return *c.putEntry, nil
	}
	return pricecache.Entry{Quote: q, RawResponseID: id, Left: time.Minute}, nil
}

var rawID = uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")

func quoteOf(t *testing.T, price string) market.Quote {
	t.Helper()
	p, err := market.ParsePrice(price)
	require.NoError(t, err)
	return market.Quote{Symbol: "AAPL", Provider: "yfinance", Price: p, ObservedAt: time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)}
}

type bundle struct {
	fetch *fakeFetch
	cache *fakeCache
	http  http.Handler
}

func setup(t *testing.T) *bundle {
	t.Helper()
	quote := quoteOf(t, "150.250000000000000001")
	b := &bundle{cache: &fakeCache{}, fetch: &fakeFetch{fetch: func(context.Context) (ingest.Result, error) {
		return ingest.Result{Quote: quote, RawResponseID: rawID}, nil
	}}}
	log := slog.New(slog.DiscardHandler)
	srv := service.New("get-latest", "", service.Config{}, log)
	newHandler(b.fetch, b.cache, "yfinance", log).routes(srv, func(ctx huma.Context, next func(huma.Context)) { next(ctx) })
	b.http = srv.Handler()
	return b
}

func (b *bundle) get(t *testing.T, target string, header ...string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	b.http.ServeHTTP(w, r)
	var body map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
	}
	return w, body
}

func TestMissAnswersTheDocumentedBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.get(t, "/prices/latest?symbol=aapl&provider=yfinance")
	require.Equal(t, http.StatusOK, w.Code)
	//nolint:testifylint // byte for byte: JSONEq would let the digits pass through float64
	require.Equal(t, `{"symbol":"AAPL","price":150.250000000000000001,"timestamp":"2024-03-20T10:30:00Z","provider":"yfinance"}`+"\n", w.Body.String())
	require.Equal(t, "MISS", w.Header().Get("X-Cache"))
	require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"))
	require.Equal(t, "0", w.Header().Get("Age"))
	require.Equal(t, `"`+rawID.String()+`"`, w.Header().Get("ETag"))
}

func TestHitNeverFetches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cache.found, b.cache.entry = true, pricecache.Entry{Quote: quoteOf(t, "7"), RawResponseID: rawID, Age: 50 * time.Second, Left: 9500 * time.Millisecond}
	w, body := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.InDelta(t, 7, body["price"], 0)
	require.Equal(t, "HIT", w.Header().Get("X-Cache"))
	require.Equal(t, "50", w.Header().Get("Age"))
	require.Equal(t, "max-age=10", w.Header().Get("Cache-Control"))
	require.Zero(t, b.fetch.calls.Load())
	w, _ = b.get(t, "/prices/latest?symbol=AAPL", "If-None-Match", `"`+rawID.String()+`"`)
	require.Equal(t, http.StatusNotModified, w.Code)
	require.Empty(t, w.Body.String())
}

func TestOldPriceIsNeverShownAsFresh(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cache.found, b.cache.entry = true, pricecache.Entry{Quote: quoteOf(t, "7"), RawResponseID: rawID, Age: 2 * time.Minute, Left: -time.Minute}
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, "MISS", w.Header().Get("X-Cache"))
	b.fetch.fetch = func(context.Context) (ingest.Result, error) {
		return ingest.Result{}, fault.New(fault.Unavailable, "provider_timeout", "x")
	}
	w, body := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "STALE", w.Header().Get("X-Cache"))
	require.Equal(t, true, body["stale"])
	require.Equal(t, "max-age=0", w.Header().Get("Cache-Control"))
	b.fetch.fetch = func(context.Context) (ingest.Result, error) {
		return ingest.Result{}, fault.New(fault.NotFound, "symbol_not_found", "x")
	}
	w, _ = b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusNotFound, w.Code, "a symbol that is gone is no outage")
}

func TestCacheTroubleNeverFailsARequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cache.err = errors.New("redis is away")
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "max-age=0", w.Header().Get("Cache-Control"))
}

func TestErrors(t *testing.T) {
	t.Parallel()
	of := func(kind fault.Kind, code string) error {
		return fault.New(kind, code, "x").After(1500 * time.Millisecond)
	}
	cases := map[string]struct {
		query  string
		err    error
		status int
		code   string
	}{
		"no symbol":         {"", nil, 400, "invalid_parameter"},
		"empty symbol":      {"symbol=", nil, 400, "invalid_parameter"},
		"long symbol":       {"symbol=" + strings.Repeat("A", 33), nil, 400, "invalid_symbol"},
		"bad symbol":        {"symbol=A%20B", nil, 400, "invalid_symbol"},
		"unknown parameter": {"symbol=AAPL&x=1", nil, 400, "invalid_parameter"},
		"unknown provider":  {"symbol=AAPL&provider=nobody", nil, 400, "unknown_provider"},
		"not found":         {"symbol=AAPL", of(fault.NotFound, "symbol_not_found"), 404, "symbol_not_found"},
		"malformed":         {"symbol=AAPL", of(fault.Unavailable, "provider_malformed"), 502, "provider_malformed"},
		"auth":              {"symbol=AAPL", of(fault.Unavailable, "provider_auth"), 502, "provider_auth"},
		"rate limited":      {"symbol=AAPL", of(fault.Unavailable, "provider_rate_limited"), 503, "provider_rate_limited"},
		"unavailable":       {"symbol=AAPL", of(fault.Unavailable, "provider_unavailable"), 503, "provider_unavailable"},
		"timeout":           {"symbol=AAPL", of(fault.Unavailable, "provider_timeout"), 504, "provider_timeout"},
		"storage":           {"symbol=AAPL", of(fault.Unavailable, "storage_unavailable"), 503, "storage_unavailable"},
		"unknown error":     {"symbol=AAPL", errors.New("password=hunter2"), 500, "internal"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fetch.fetch = func(context.Context) (ingest.Result, error) { return ingest.Result{}, c.err }
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
		})
	}
}

func TestOneFetchHoweverManyWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		release := make(chan struct{})
		result, err := b.fetch.fetch(t.Context())
		require.NoError(t, err)
		b.fetch.fetch = func(context.Context) (ingest.Result, error) {
			<-release
			return result, nil
		}
		codes := make(chan int, 20)
		for range 20 {
			go func() {
				w := httptest.NewRecorder()
				b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/prices/latest?symbol=AAPL", nil))
				codes <- w.Code
			}()
		}
		synctest.Wait() // all of them wait: one for the provider, the others for that one
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, httptest.NewRequestWithContext(cancelled, http.MethodGet, "/prices/latest?symbol=AAPL", nil))
		require.Equal(t, http.StatusServiceUnavailable, w.Code, "who goes away waits no longer")
		close(release)
		for range 20 {
			require.Equal(t, http.StatusOK, <-codes)
		}
		require.EqualValues(t, 1, b.fetch.calls.Load())
	})
}

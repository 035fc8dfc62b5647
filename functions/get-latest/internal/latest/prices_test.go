package latest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

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

// Prices of the second provider, fresh or old, are used as soon as the first has none.
func TestAutoUsesWhatIsCachedOfTheSecondProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=AAPL&provider=finnhub")
	for _, want := range []string{"HIT", "STALE"} {
		b.failing(t, map[string]error{"yfinance": outage("provider_timeout"), "finnhub": outage("provider_auth"), "binance": notFound})
		w, body := b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
		require.Equal(t, want, w.Header().Get("X-Cache"))
		require.Equal(t, "finnhub", body["provider"])
		require.Equal(t, "yfinance", body["fallback_from"])
		require.Equal(t, "provider_timeout", body["fallback_reason"])
		b.later(time.Minute)
	}
	require.NotContains(t, b.log.String(), "could not read the cache")
}

// A price that becomes too old while the provider hangs is not answered.
func TestAPriceThatBecomesTooOldMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbol=AAPL")
	b.later(10*time.Minute - 500*time.Millisecond)
	b.fetch.fetch = func(ctx context.Context, _ string, _ market.Symbol) (ingest.Result, error) {
		<-ctx.Done() // a second
		return ingest.Result{}, outage("provider_timeout")
	}
	w, _ := b.get(t, "/prices/latest?symbol=AAPL")
	require.Equal(t, http.StatusGatewayTimeout, w.Code)
}

func TestAutoReturnsTheMostUsefulError(t *testing.T) {
	t.Parallel()
	auth, malformed, limited, away := outage("provider_auth"), outage("provider_malformed"), outage("provider_rate_limited"), outage("provider_unavailable")
	cases := map[string]struct {
		errs  []error
		code  string
		calls int
	}{
		"no provider has the symbol":        {[]error{notFound, notFound, notFound}, "symbol_not_found", 3},
		"a retryable error over not found":  {[]error{notFound, limited, notFound}, "provider_rate_limited", 3},
		"not found over auth and malformed": {[]error{auth, notFound, malformed}, "symbol_not_found", 3},
		"malformed over auth":               {[]error{auth, malformed, auth}, "provider_malformed", 3},
		"the first of equals":               {[]error{away, limited, auth}, "provider_unavailable", 3},
		"a timeout over not found":          {[]error{notFound, outage("provider_timeout"), auth}, "provider_timeout", 3},
		"an overload over not found":        {[]error{notFound, outage("overloaded"), auth}, "overloaded", 3},
		"not found after malformed":         {[]error{malformed, notFound, auth}, "symbol_not_found", 3},
		"a storage error over all":          {[]error{away, outage("storage_unavailable"), auth}, "storage_unavailable", 2},
		"a storage error ends the chain":    {[]error{notFound, outage("storage_unavailable"), away}, "storage_unavailable", 2},
		"an unknown error ranks no higher":  {[]error{auth, auth, errors.New("defect")}, "provider_auth", 3},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.failing(t, map[string]error{"yfinance": c.errs[0], "finnhub": c.errs[1], "binance": c.errs[2]})
			_, body := b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
			require.Equal(t, c.code, body["code"])
			require.Equal(t, c.calls, b.fetch.count("yfinance AAPL")+b.fetch.count("finnhub AAPL")+b.fetch.count("binance AAPL"))
		})
	}
}

// A client that goes away ends the chain: no further provider is asked.
func TestAutoEndsWithItsClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, leave := context.WithCancel(t.Context())
	answered := make(chan struct{})
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		leave()
		<-answered
		return resultOf(t, provider, symbol, "7"), nil
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/prices/latest?symbol=AAPL&provider=auto", nil)
	b.service.Handler().ServeHTTP(httptest.NewRecorder(), r)
	close(answered)
	b.api.prices.flights.Close() // waits for all of them
	require.Equal(t, map[string]int{"yfinance AAPL": 1}, b.fetch.calls)
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
		require.Contains(t, w.Body.String(), fmt.Sprintf("marketdata_price_lookups_total{result=%q} %d\n", result, n))
	}
}

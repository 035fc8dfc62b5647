package latest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

func TestMissReturnsTheDocumentedBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fetch.fetch = func(_ context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		r := resultOf(t, provider, symbol, "150.250000000000000001")
		r.Quote.Currency = "GBp"
		return r, nil
	}
	w, _ := b.get(t, "/prices/latest?symbol=aapl&provider=yfinance")
	require.Equal(t, http.StatusOK, w.Code)
	require.True(t, w.Flushed, "the client does not wait for the log")
	//nolint:testifylint // byte for byte: JSONEq would convert the digits to float64
	require.Equal(t, `{"symbol":"AAPL","price":150.250000000000000001,"timestamp":"2024-03-20T10:30:00Z","provider":"yfinance","currency":"GBp"}`+"\n", w.Body.String())
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
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
	require.Empty(t, b.log.String())
}

// A price of one provider is no price of another.
func TestEachProviderHasItsOwnPrices(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, want := range []string{"MISS", "HIT"} {
		for _, provider := range []string{"yfinance", "finnhub"} {
			w, body := b.get(t, "/prices/latest?symbol=AAPL&provider="+provider)
			require.Equal(t, provider, body["provider"])
			require.Equal(t, want, w.Header().Get("X-Cache"))
		}
	}
}

// A request that the limiter refuses costs no call, whether it is valid or not, and has no other answer.
func TestARefusedRequestIsNotAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.gate.shut = true
	for _, query := range []string{"symbol=AAPL", "symbols=AAPL,MSFT", "symbol=A%20B"} {
		w, _ := b.get(t, "/prices/latest?"+query)
		require.Equal(t, http.StatusTooManyRequests, w.Code, query)
		require.Empty(t, w.Body.String(), query)
	}
	require.Empty(t, b.fetch.calls)
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
	b.failing(t, map[string]error{"yfinance": outage("provider_timeout")})
	_, body = b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
	require.Equal(t, "finnhub", body["provider"])
	require.Equal(t, 5, strings.Count(b.log.String(), "could not read the cache"), "of each symbol, and of each provider")
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

// The flight of a miss reads the cache once more, and nothing else does.
func TestCommandsOfAMiss(t *testing.T) {
	t.Parallel()
	b := setup(t)
	commands := 0
	for range 2 { // the first opens a connection, and loads the script
		b.redis.Del("price:yfinance:AAPL")
		before := b.redis.CommandCount()
		w, _ := b.get(t, "/prices/latest?symbol=AAPL&provider=auto")
		require.Equal(t, "MISS", w.Header().Get("X-Cache"))
		commands = b.redis.CommandCount() - before
	}
	require.Equal(t, 2+4+6, commands, "of the gate, of the flight, and the script that stores the price, with its five")
}

package latest

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

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
		require.NotContains(t, w.Header(), "Content-Type", name)
	}
	for _, line := range []string{`"other"`, strings.Trim(tag, `"`), `"` + tag, "junk, " + tag, "W/", `"`, ",,", "*x", `"a", *`} {
		w, _ := b.get(t, "/prices/latest?symbol=AAPL", "If-None-Match", line)
		require.Equal(t, http.StatusOK, w.Code, line)
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

// The tag of a batch is that of its symbols and their prices.
func TestTagOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tags := map[string]bool{}
	for _, symbols := range []string{"AAPL", "AAPL,MSFT", "MSFT"} {
		w, _ := b.get(t, "/prices/latest?symbols="+symbols)
		tags[w.Header().Get("ETag")] = true
	}
	b.later(time.Minute)
	b.failing(t, map[string]error{"yfinance": outage("provider_timeout")})
	w, _ := b.get(t, "/prices/latest?symbols=AAPL")
	require.Equal(t, "STALE", w.Header().Get("X-Cache"))
	tags[w.Header().Get("ETag")] = true
	require.Len(t, tags, 4)
	require.NotContains(t, tags, "")
}

// X-Cache of a batch is the worst of its symbols; a symbol without a price counts as a miss. Nobody may keep a batch with an error, or with
// an old price.
func TestXCacheOfABatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.get(t, "/prices/latest?symbols=OLD,OLDER")
	b.later(2 * time.Minute)
	b.get(t, "/prices/latest?symbols=HOT,WARM")
	b.later(10 * time.Second)
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
		control := "max-age=0"
		if symbols == "HOT,WARM" || symbols == "HOT,NEW" {
			control = "max-age=60"
		}
		require.Equal(t, control, w.Header().Get("Cache-Control"), symbols)
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
	b.api.Private = true
	for _, query := range []string{"symbol=AAPL", "symbol=AAPL", "symbols=AAPL,MSFT", "symbols=A%20B"} { // a miss, a hit, a batch, errors
		w, _ := b.get(t, "/prices/latest?"+query)
		require.Regexp(t, "^private, max-age=(60|0)$", w.Header().Get("Cache-Control"), query)
	}
	w, _ := b.get(t, "/prices/latest?symbol=AAPL", "If-None-Match", "*")
	require.Equal(t, "private, max-age=60", w.Header().Get("Cache-Control"))
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
	w, body := b.get(t, "/prices/latest?symbols=AAPL,NONE,A%20B,,AWAY", "X-Request-ID", "abc", "If-None-Match", "*")
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
	require.NotContains(t, w.Header(), "Etag")
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

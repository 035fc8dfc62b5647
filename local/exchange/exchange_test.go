package exchange_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/exchange"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/providers"
)

func setup(t *testing.T, now func() time.Time) (http.Handler, map[string]market.Provider) {
	t.Helper()
	e := exchange.New(1, now)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	c := providers.Config{Timeout: 20 * time.Second, Each: map[string]providers.Settings{}}
	for _, name := range market.Providers() {
		c.Each[name] = providers.Settings{BaseURL: server.URL + "/" + name, APIKey: "any-key-will-do"}
	}
	return e, providers.New(c)
}

func call(t *testing.T, e http.Handler, method, target, body string, header ...string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	e.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func price(t *testing.T, p market.Provider, symbol market.Symbol) market.Price {
	t.Helper()
	q, _, err := p.Latest(t.Context(), symbol)
	require.NoError(t, err)
	return q.Price
}

func TestPriceIsAFunctionOfTheSecond(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	_, all := setup(t, func() time.Time { return at })
	q, _, err := all["yfinance"].Latest(t.Context(), "AAPL")
	require.NoError(t, err)
	require.Equal(t, at.Truncate(time.Second), q.ObservedAt)
	seen := map[string]bool{}
	low, err := market.ParsePrice("190")
	require.NoError(t, err)
	high, err := market.ParsePrice("260")
	require.NoError(t, err)
	for range 200 {
		at = at.Add(time.Second)
		p := price(t, all["yfinance"], "AAPL")
		require.Equal(t, 1, p.Cmp(low), "the last real close is 223.02")
		require.Equal(t, -1, p.Cmp(high))
		require.Equal(t, p, price(t, all["yfinance"], "AAPL"))
		seen[p.String()] = true
	}
	require.Greater(t, len(seen), 20, "the price moves")
}

func TestAllProvidersHaveTheSamePrices(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e, all := setup(t, func() time.Time { return at })
	for _, symbol := range []market.Symbol{"AAPL", "AMZN", "GOOG", "IBM", "MSFT"} {
		want := price(t, all["yfinance"], symbol)
		for _, name := range []string{"alpha_vantage", "finnhub", "twelve_data"} {
			require.Equal(t, want, price(t, all[name], symbol), name)
		}
	}
	require.Equal(t, price(t, all["coinbase"], "BTC-USD"), price(t, all["binance"], "BTCUSDT"))
	require.Equal(t, price(t, all["coinbase"], "ETH-USD"), price(t, all["binance"], "ETHUSDT"))
	_, text := call(t, e, http.MethodGet, "/twelve_data/price?symbol=aapl&apikey=k", "")
	require.JSONEq(t, `{"price":"`+price(t, all["yfinance"], "AAPL").String()+`000"}`, text)
	for name, symbol := range map[string]market.Symbol{
		"yfinance": "BTC-USD", "alpha_vantage": "BTCUSDT", "finnhub": "ETH-USD", "twelve_data": "ETH-USD", "binance": "BTC-USD", "coinbase": "BTCUSDT",
	} {
		_, _, err := all[name].Latest(t.Context(), symbol)
		require.Equal(t, "symbol_not_found", fault.CodeOf(err), name)
	}
	require.Equal(t, []string{"AAPL", "AMZN", "GOOG", "IBM", "MSFT"}, exchange.New(0, time.Now).Symbols())
}

// Responses have the same members as the captured ones. The conformance tests of the adapters check how they are parsed.
func TestShapes(t *testing.T) {
	t.Parallel()
	e, _ := setup(t, time.Now)
	for target, members := range map[string]string{
		"/alpha_vantage/query?function=GLOBAL_QUOTE&symbol=IBM&apikey=k": "Global Quote: 01. symbol,02. open,03. high,04. low,05. price,06. volume," +
			"07. latest trading day,08. previous close,09. change,10. change percent",
		"/finnhub/api/v1/quote?symbol=AAPL&token=k": "c,d,dp,h,l,o,pc,t",
		"/twelve_data/quote?symbol=AAPL&apikey=k": "average_volume,change,close,currency,datetime,exchange,fifty_two_week: high,low,high,is_market_open," +
			"last_quote_at,low,mic_code,name,open,percent_change,previous_close,symbol,timestamp,volume",
		"/twelve_data/price?symbol=AAPL&apikey=k":       "price",
		"/binance/api/v3/ticker/price?symbol=BTCUSDT":   "price,symbol",
		"/coinbase/products/BTC-USD/ticker":             "ask,bid,conversions_volume,price,rfq_volume,size,time,trade_id,volume",
		"/yfinance/v8/finance/chart/AAPL?interval=1m":   "chart: error,result",
		"/yfinance/v8/finance/chart/NOPE?interval=1m":   "chart: error: code,description,result",
		"/finnhub/api/v1/quote?symbol=NOPE&token=k":     "c,d,dp,h,l,o,pc,t",
		"/finnhub/api/v1/quote?symbol=AAPL":             "error",
		"/twelve_data/quote?symbol=NOPE&apikey=k":       "code,message,status",
		"/binance/api/v3/ticker/price?symbol=NOPE":      "code,msg",
		"/coinbase/products/NOPE/ticker":                "message",
		"/alpha_vantage/query?symbol=NOPE&apikey=k":     "Global Quote: ",
		"/alpha_vantage/query?symbol=IBM":               "Error Message",
		"/alpha_vantage/query?symbol=IBM&apikey=&x=%20": "Error Message",
	} {
		_, text := call(t, e, http.MethodGet, target, "")
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &v), text)
		require.Equal(t, members, shape(v), target)
	}
}

// shape lists the members of an object in order, recursively.
func shape(v map[string]any) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if inner, ok := v[name].(map[string]any); ok {
			name += ": " + shape(inner)
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

func TestKeysAreRequiredAsByTheRealProviders(t *testing.T) {
	t.Parallel()
	e, _ := setup(t, time.Now)
	for _, c := range []struct {
		target string
		header []string
		status int
		text   string
	}{
		{"/finnhub/api/v1/quote?symbol=AAPL", nil, 401, "Please use an API key."},
		{"/finnhub/api/v1/quote?symbol=NOPE", nil, 401, "Please use an API key."},
		{"/finnhub/api/v1/quote?symbol=AAPL", []string{"X-Finnhub-Token", "k"}, 200, `"pc":223.02`},
		{"/twelve_data/quote?symbol=AAPL", nil, 200, `"code":401`},
		{"/twelve_data/quote?symbol=AAPL", []string{"Authorization", "apikey k"}, 200, `"previous_close":"223.02000"`},
		{"/alpha_vantage/query?symbol=AAPL", nil, 200, "apikey is invalid or missing"},
		{"/alpha_vantage/query?symbol=AAPL&apikey=k", nil, 200, `"08. previous close":"223.0200"`},
		{"/yfinance/v8/finance/chart/AAPL", nil, 200, `"previousClose":223.02`},
	} {
		status, text := call(t, e, http.MethodGet, c.target, "", c.header...)
		require.Equal(t, c.status, status, c.target)
		require.Contains(t, text, c.text, c.target)
	}
}

func TestFaultsApplyToSomeCallsOfASymbol(t *testing.T) {
	t.Parallel()
	e, all := setup(t, time.Now)
	outcome := func(provider string, symbol market.Symbol) string {
		_, _, err := all[provider].Latest(t.Context(), symbol)
		if err != nil {
			return fault.CodeOf(err)
		}
		return "ok"
	}
	put := func(fault string) {
		status, text := call(t, e, http.MethodPut, "/_admin/faults", fault)
		require.Equal(t, http.StatusNoContent, status, text)
	}
	for _, p := range exchange.Providers() {
		symbol, other := market.Symbol("MSFT"), market.Symbol("IBM")
		switch p.Name {
		case "binance":
			symbol, other = "BTCUSDT", "ETHUSDT"
		case "coinbase":
			symbol, other = "BTC-USD", "ETH-USD"
		}
		put(fmt.Sprintf(`{"provider":%q,"symbol":%q,"kind":"error_5xx","count":2}`, p.Name, strings.ToLower(string(symbol))))
		require.Equal(t, "ok", outcome(p.Name, other))
		for _, want := range []string{"provider_unavailable", "provider_unavailable", "ok"} {
			require.Equal(t, want, outcome(p.Name, symbol), p.Name)
		}
		put(fmt.Sprintf(`{"provider":%q,"kind":"html"}`, p.Name)) // until deleted
		for range 3 {
			require.Equal(t, "provider_malformed", outcome(p.Name, symbol), p.Name)
		}
		_, calls := call(t, e, http.MethodGet, "/_admin/calls?provider="+p.Name+"&symbol="+string(symbol), "")
		require.JSONEq(t, `{"calls":6}`, calls)
	}
	status, _ := call(t, e, http.MethodDelete, "/_admin/faults?provider=yfinance", "")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, "ok", outcome("yfinance", "MSFT"))
	require.Equal(t, "provider_malformed", outcome("coinbase", "BTC-USD"))
	status, _ = call(t, e, http.MethodDelete, "/_admin/faults", "")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, "ok", outcome("coinbase", "BTC-USD"))
	_, calls := call(t, e, http.MethodGet, "/_admin/calls", "")
	require.JSONEq(t, `{"calls":45}`, calls)
}

func TestInvalidFaultsAreRefused(t *testing.T) {
	t.Parallel()
	e, all := setup(t, time.Now)
	for _, text := range []string{
		``, `{}`, `{"provider":"yfinance"}`, `{"provider":"nobody","kind":"html"}`, `{"provider":"yfinance","kind":"nothing"}`,
		`{"provider":"yfinance","kind":"html","count":-1}`, `{"provider":"yfinance","kind":"html","delay_ms":-1}`, `{"provider":"yfinance","kind":"html","x":1}`,
	} {
		status, _ := call(t, e, http.MethodPut, "/_admin/faults", text)
		require.Equal(t, http.StatusBadRequest, status, text)
	}
	price(t, all["yfinance"], "AAPL")
}

func TestExchangeEmulatesEveryProvider(t *testing.T) {
	t.Parallel()
	var want []exchange.Provider
	for _, l := range market.Catalog {
		want = append(want, exchange.Provider{Name: l.Name, NeedsKey: l.Key})
	}
	require.Equal(t, want, exchange.Providers())
}

func TestInventedInstrumentsHavePricesAndAreNotListed(t *testing.T) {
	t.Parallel()
	e := exchange.New(1, time.Now).Invent(2)
	for symbol, want := range map[string]int{"LOAD0": http.StatusOK, "LOAD1": http.StatusOK, "LOAD2": http.StatusNotFound} {
		status, body := call(t, e, http.MethodGet, "/yfinance/v8/finance/chart/"+symbol, "")
		require.Equal(t, want, status, "%s: %s", symbol, body)
	}
	require.NotContains(t, e.Symbols(), "LOAD0")
}

package exchange_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/exchange"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
	"marketdata/shared/market/yfinance"
)

func setup(t *testing.T, now func() time.Time) (*httptest.Server, *yfinance.Provider) {
	t.Helper()
	server := httptest.NewServer(exchange.New(1, now))
	t.Cleanup(server.Close)
	return server, yfinance.New(server.URL+"/yfinance", upstream.New(300*time.Millisecond))
}

func TestPriceIsAFunctionOfTheSecond(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	_, p := setup(t, func() time.Time { return at })
	first, resp, err := p.Latest(t.Context(), "AAPL")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.Status)
	require.Equal(t, at.Truncate(time.Second), first.ObservedAt)
	require.Equal(t, "USD", first.Currency)
	again, _, err := p.Latest(t.Context(), "AAPL")
	require.NoError(t, err)
	require.Equal(t, first.Price, again.Price)
	seen := map[string]bool{}
	for range 200 {
		at = at.Add(time.Second)
		q, _, err := p.Latest(t.Context(), "AAPL")
		require.NoError(t, err)
		require.Equal(t, -1, mustPrice(t, "190").Cmp(q.Price)) // the last real close is 223.02
		require.Equal(t, 1, mustPrice(t, "260").Cmp(q.Price))
		seen[q.Price.String()] = true
	}
	require.Greater(t, len(seen), 20, "the price moves")
}

func mustPrice(t *testing.T, s string) market.Price {
	t.Helper()
	p, err := market.ParsePrice(s)
	require.NoError(t, err)
	return p
}

// Every way in which Yahoo fails, and what the adapter makes of it.
func TestFaults(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"extra_fields": "", "unknown_symbol": "symbol_not_found", "bad_key": "provider_rate_limited", "no_key": "provider_rate_limited",
		"not_entitled": "provider_rate_limited", "limit_minute": "provider_rate_limited", "limit_day": "provider_rate_limited",
		"html": "provider_malformed", "truncated": "provider_malformed", "bad_price": "provider_malformed",
		"timeout": "provider_timeout", "error_5xx": "provider_unavailable", "oversized": "provider_malformed",
	}
	for kind, code := range cases {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server, p := setup(t, time.Now)
			admin(t, http.MethodPut, server.URL+"/_admin/faults", `{"provider":"yfinance","symbol":"aapl","kind":"`+kind+`","count":1}`)
			_, _, err := p.Latest(t.Context(), "AAPL")
			if code == "" {
				require.NoError(t, err)
			} else {
				require.Equal(t, code, fault.CodeOf(err))
			}
			_, _, err = p.Latest(t.Context(), "AAPL")
			require.NoError(t, err, "the fault was for one call")
			require.Equal(t, 2, calls(t, server))
		})
	}
}

func TestFaultWithoutCountLastsUntilDeleted(t *testing.T) {
	t.Parallel()
	server, p := setup(t, time.Now)
	admin(t, http.MethodPut, server.URL+"/_admin/faults", `{"provider":"yfinance","kind":"error_5xx"}`)
	for range 3 {
		_, _, err := p.Latest(t.Context(), "MSFT")
		require.Equal(t, "provider_unavailable", fault.CodeOf(err))
	}
	admin(t, http.MethodDelete, server.URL+"/_admin/faults", "")
	_, _, err := p.Latest(t.Context(), "MSFT")
	require.NoError(t, err)
}

func TestUnknownSymbolIsNotFound(t *testing.T) {
	t.Parallel()
	_, p := setup(t, time.Now)
	_, _, err := p.Latest(t.Context(), "NOPE")
	require.Equal(t, "symbol_not_found", fault.CodeOf(err))
}

func admin(t *testing.T, method, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
}

func calls(t *testing.T, server *httptest.Server) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/_admin/calls?provider=yfinance&symbol=AAPL", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	var v struct{ Calls int }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&v))
	return v.Calls
}

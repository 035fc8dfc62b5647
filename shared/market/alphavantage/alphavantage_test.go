package alphavantage_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/exchange"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/alphavantage"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:     alphavantage.Name,
		New:      func(c upstream.Config) market.Provider { return alphavantage.New(c, "") },
		Exchange: func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:   "IBM",
		DayLimit: true,
		Price:    `"05. price":`,
		Recorded: map[string]conformance.Want{
			"ok.http":                     {Price: "51.76"},
			"ok_delayed.http":             {Price: "51.76"},
			"unknown_symbol_delayed.http": {Code: "symbol_not_found"},
			"unknown_symbol.http":         {Code: "symbol_not_found"},
			"bad_key.http":                {Code: "provider_auth"},
			"bad_key_as_information.http": {Code: "provider_auth"},
			"demo_key.http":               {Code: "provider_auth"},
			"not_entitled.http":           {Code: "provider_auth"},
			"limit_second.http":           {Code: "provider_rate_limited", Wait: 2 * time.Second},
			"limit_minute.http":           {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_minute_2018.http":      {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_day.http":              {Code: "provider_rate_limited", Midnight: true},
			"limit_day_without_key.http":  {Code: "provider_rate_limited", Midnight: true},
			"no_price.http":               {Code: "provider_malformed"},
			"bad_call.http":               {Code: "provider_malformed"},
			"unknown_words.http":          {Code: "provider_malformed"},
			"html.http":                   {Code: "provider_malformed"},
			"unavailable.http":            {Code: "provider_unavailable"},
		},
		Bars: &history,
	}
	a.Key.Query = "apikey"
	conformance.Run(t, a)
}

func TestEntitlementIsSentAndItsAnswerRead(t *testing.T) {
	t.Parallel()
	fake := exchange.New(1, time.Now)
	var queries []url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.Query())
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	for _, entitlement := range alphavantage.Entitlements {
		p := alphavantage.New(upstream.Config{BaseURL: server.URL + "/alpha_vantage", Key: "k", Timeout: time.Minute}, entitlement)
		q, _, err := p.Latest(t.Context(), "IBM")
		require.NoError(t, err)
		require.Equal(t, "alpha_vantage", q.Provider)
		_, _, err = p.Latest(t.Context(), "NOPE")
		require.Equal(t, "symbol_not_found", fault.CodeOf(err))
	}
	require.Len(t, queries, 6)
	require.NotContains(t, queries[0], "entitlement")
	require.Equal(t, "delayed", queries[2].Get("entitlement"))
	require.Equal(t, "realtime", queries[4].Get("entitlement"))
}

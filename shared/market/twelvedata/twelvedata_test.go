package twelvedata_test

import (
	"net/http"
	"testing"
	"time"

	"marketdata/local/exchange"
	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/twelvedata"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:      twelvedata.Name,
		New:       func(c upstream.Config) market.Provider { return twelvedata.New(c) },
		Exchange:  func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:    "AAPL",
		TimeGiven: true, Currency: "USD", DayLimit: true,
		Price: `"close":`, Seconds: `"last_quote_at":`,
		Recorded: map[string]conformance.Want{
			"ok.http":                    {Price: "335.59", ObservedAt: time.Unix(1789761540, 0).UTC(), Currency: "USD"},
			"ok_without_time.http":       {Price: "335.59"}, // a date is not a time
			"unknown_symbol.http":        {Code: "symbol_not_found"},
			"unknown_symbol_on_200.http": {Code: "symbol_not_found"},
			"unknown_symbol_400.http":    {Code: "symbol_not_found"},
			"not_entitled.http":          {Code: "provider_auth"},
			"not_entitled_on_200.http":   {Code: "provider_auth"},
			"not_entitled_endpoint.http": {Code: "provider_auth"},
			"bad_key.http":               {Code: "provider_auth"},
			"bad_key_on_200.http":        {Code: "provider_auth"},
			"limit_minute.http":          {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_minute_on_200.http":   {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_day.http":             {Code: "provider_rate_limited", Midnight: true},
			"limit_day_on_200.http":      {Code: "provider_rate_limited", Midnight: true},
			"limit_before_it.http":       {Code: "provider_rate_limited", Wait: time.Minute},
			"no_data.http":               {Code: "provider_malformed"},
			"error_without_code.http":    {Code: "provider_malformed"},
			"html.http":                  {Code: "provider_malformed"},
			"internal_error_on_200.http": {Code: "provider_unavailable"},
		},
		Bars: &history,
	}
	a.Key.Header, a.Key.Prefix = "Authorization", "apikey "
	conformance.Run(t, a)
}

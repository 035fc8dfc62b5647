package yfinance_test

import (
	"net/http"
	"testing"
	"time"

	"marketdata/local/exchange"
	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
	"marketdata/shared/market/yfinance"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:      yfinance.Name,
		New:       func(c upstream.Config) market.Provider { return yfinance.New(c) },
		Exchange:  func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:    "AAPL",
		TimeGiven: true, Currency: "USD",
		Price: `"regularMarketPrice":`, Seconds: `"regularMarketTime":`,
		Codes: map[string]string{ // it has no keys: unwanted clients meet its bot protection
			"bad_key": "provider_rate_limited", "no_key": "provider_rate_limited", "not_entitled": "provider_rate_limited",
		},
		Recorded: map[string]conformance.Want{
			"ok.http":                    {Price: "333.923", ObservedAt: time.Unix(1791208707, 0).UTC(), Currency: "USD"},
			"ok_newer_members.http":      {Price: "333.923", ObservedAt: time.Unix(1791208707, 0).UTC(), Currency: "USD"},
			"ok_pence.http":              {Price: "220.69000244140625", ObservedAt: time.Unix(1791208707, 0).UTC(), Currency: "GBp"},
			"unknown_symbol.http":        {Code: "symbol_not_found"},
			"unknown_symbol_on_200.http": {Code: "symbol_not_found"},
			"limit.http":                 {Code: "provider_rate_limited", Wait: time.Minute},
			"denied.http":                {Code: "provider_rate_limited", Wait: 15 * time.Minute},
			"denied_with_a_wait.http":    {Code: "provider_rate_limited", Wait: 2 * time.Hour},
			"limit_on_200.http":          {Code: "provider_rate_limited", Wait: time.Minute},
			"bad_cookie.http":            {Code: "provider_auth"},
			"bad_request.http":           {Code: "provider_malformed"},
			"unauthorized.http":          {Code: "provider_auth"},
			"empty_result.http":          {Code: "provider_malformed"},
			"null_price.http":            {Code: "provider_malformed"},
			"no_time.http":               {Code: "provider_malformed"},
			"html.http":                  {Code: "provider_malformed"},
		},
		Bars: &history,
	}
	conformance.Run(t, a)
}

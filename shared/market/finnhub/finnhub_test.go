package finnhub_test

import (
	"net/http"
	"testing"
	"time"

	"marketdata/local/exchange"
	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/finnhub"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:      finnhub.Name,
		New:       func(c upstream.Config) market.Provider { return finnhub.New(c) },
		Exchange:  func() http.Handler { return exchange.New(1, time.Now) },
		Symbol:    "AAPL",
		TimeGiven: true,
		Price:     `"c":`,
		Recorded: map[string]conformance.Want{
			"ok.http":                 {Price: "153.04", ObservedAt: time.Unix(1658347204, 0).UTC()},
			"unknown_symbol.http":     {Code: "symbol_not_found"},
			"no_key.http":             {Code: "provider_auth"},
			"bad_key.http":            {Code: "provider_auth"},
			"not_entitled.http":       {Code: "provider_auth"},
			"limit_minute.http":       {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_minute_short.http": {Code: "provider_rate_limited", Wait: time.Minute},
			"before_the_open.http":    {Code: "provider_malformed"},
			"empty.http":              {Code: "provider_malformed"},
			"html.http":               {Code: "provider_malformed"},
			"unavailable.http":        {Code: "provider_unavailable"},
		},
	}
	a.Key.Header = "X-Finnhub-Token"
	conformance.Run(t, a)
}

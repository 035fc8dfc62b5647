package coinbase_test

import (
	"net/http"
	"testing"
	"time"

	"marketdata/local/exchange"
	"marketdata/shared/market"
	"marketdata/shared/market/coinbase"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:      coinbase.Name,
		New:       func(c upstream.Config) market.Provider { return coinbase.New(c) },
		Exchange:  func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:    "BTC-USD",
		TimeGiven: true,
		Price:     `"price":`,
		Recorded: map[string]conformance.Want{
			"ok.http":             {Price: "6268.48", ObservedAt: time.Date(2020, 3, 20, 0, 22, 57, 833_000_000, time.UTC)},
			"unknown_symbol.http": {Code: "symbol_not_found"},
			"delisted.http":       {Code: "symbol_not_found"},
			"forbidden.http":      {Code: "provider_auth"},
			"limit.http":          {Code: "provider_rate_limited", Wait: time.Second},
			"bad_request.http":    {Code: "provider_malformed"},
			"no_time.http":        {Code: "provider_malformed"},
			"bad_time.http":       {Code: "provider_malformed"},
			"html.http":           {Code: "provider_malformed"},
		},
		Bars: &history,
	}
	conformance.Run(t, a)
}

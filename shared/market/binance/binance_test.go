package binance_test

import (
	"net/http"
	"testing"
	"time"

	"marketdata/local/exchange"
	"marketdata/shared/market"
	"marketdata/shared/market/binance"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:     binance.Name,
		New:      func(c upstream.Config) market.Provider { return binance.New(c) },
		Exchange: func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:   "BTCUSDT",
		Price:    `"price":`,
		Recorded: map[string]conformance.Want{
			"ok.http":                  {Price: "4.000002"},
			"unknown_symbol.http":      {Code: "symbol_not_found"},
			"illegal_characters.http":  {Code: "symbol_not_found"},
			"restricted_location.http": {Code: "provider_auth"},
			"overloaded.http":          {Code: "provider_unavailable", Wait: 30 * time.Second},
			"limit_minute.http":        {Code: "provider_rate_limited", Wait: 12 * time.Second},
			"banned.http":              {Code: "provider_rate_limited", Wait: 3493 * time.Second},
			"banned_without_wait.http": {Code: "provider_rate_limited", Wait: time.Minute},
			"firewall.http":            {Code: "provider_rate_limited", Wait: time.Minute},
			"html.http":                {Code: "provider_malformed"},
			"internal_error.http":      {Code: "provider_unavailable"},
		},
		Bars: &history,
	}
	conformance.Run(t, a)
}

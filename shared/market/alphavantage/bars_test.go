package alphavantage_test

import (
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
)

func day(d int) time.Time { return time.Date(2024, 3, d, 0, 0, 0, 0, time.UTC) }

var history = conformance.Bars{
	AsTraded: true,
	Close:    `"191.7300"`, Bar: 1,
	Recorded: map[string]conformance.WantBars{
		"ok.http": {
			Interval: market.Day, From: day(8), To: day(13), Now: day(12).Add(29 * time.Hour), // 01:00 in New York
			Bars: []string{"2024-03-08T00:00:00Z 195.95", "2024-03-11T00:00:00Z 191.73", "2024-03-12T00:00:00Z 197.78 unfinished"},
		},
		"full_is_premium.http": {Code: "provider_auth"},
		"unknown_symbol.http":  {Code: "symbol_not_found"},
		"bad_key.http":         {Code: "provider_auth"},
		"limit_day.http":       {Code: "provider_rate_limited", Midnight: true},
		"quote_instead.http":   {Code: "provider_malformed"},
		"no_date.http":         {Code: "provider_malformed"},
		"html.http":            {Code: "provider_malformed"},
	},
}

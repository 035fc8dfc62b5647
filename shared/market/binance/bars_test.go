package binance_test

import (
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
)

func day(d int) time.Time { return time.Date(2024, 3, d, 0, 0, 0, 0, time.UTC) }

var history = conformance.Bars{
	Close: `"72078.10000000"`, Bar: 1,
	Recorded: map[string]conformance.WantBars{
		"ok.http": {
			Interval: market.Day, From: day(10), To: day(14), Now: day(13).Add(30 * time.Second), // within the margin
			Bars: []string{"2024-03-10T00:00:00Z 68955.88", "2024-03-11T00:00:00Z 72078.1", "2024-03-12T00:00:00Z 71452.01 unfinished"},
		},
		"minutes.http": {
			Interval: market.Minute, From: day(12), To: day(13), Now: day(12).Add(13*time.Hour + 43*time.Minute),
			Bars: []string{"2024-03-12T13:40:00Z 71500.01", "2024-03-12T13:41:00Z 71501"},
		},
		"empty.http":               {Interval: market.Day, From: day(1), To: day(2), Now: day(13)},
		"microseconds.http":        {Code: "provider_malformed"},
		"odd_time.http":            {Code: "provider_malformed"},
		"short_row.http":           {Code: "provider_malformed"},
		"unknown_symbol.http":      {Code: "symbol_not_found"},
		"bad_interval.http":        {Code: "provider_malformed"},
		"limit_minute.http":        {Code: "provider_rate_limited", Wait: 12 * time.Second},
		"banned.http":              {Code: "provider_rate_limited", Wait: time.Minute},
		"restricted_location.http": {Code: "provider_auth"},
		"firewall.http":            {Code: "provider_rate_limited", Wait: time.Minute},
	},
}

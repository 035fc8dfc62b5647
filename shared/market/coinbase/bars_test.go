package coinbase_test

import (
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
)

func day(d int) time.Time { return time.Date(2024, 3, d, 0, 0, 0, 0, time.UTC) }

var history = conformance.Bars{
	Close: "72099.07", Bar: 1,
	Recorded: map[string]conformance.WantBars{
		"ok.http": {
			Interval: market.Day, From: day(10), To: day(14), Now: day(13).Add(30 * time.Second), // within the margin
			Bars: []string{"2024-03-10T00:00:00Z 68964.6", "2024-03-11T00:00:00Z 72099.07", "2024-03-12T00:00:00Z 71465.42 unfinished"},
		},
		"minutes.http": { // two minutes had no trade
			Interval: market.Minute, From: day(12).Add(13 * time.Hour), To: day(12).Add(14 * time.Hour), Now: day(12).Add(15 * time.Hour),
			Bars: []string{"2024-03-12T13:40:00Z 71500.01", "2024-03-12T13:43:00Z 71501"},
		},
		"empty.http":          {Interval: market.Day, From: day(1), To: day(2), Now: day(13)},
		"odd_time.http":       {Code: "provider_malformed"},
		"short_row.http":      {Code: "provider_malformed"},
		"unknown_symbol.http": {Code: "symbol_not_found"},
		"too_many.http":       {Code: "provider_malformed"},
		"limit.http":          {Code: "provider_rate_limited", Wait: time.Second},
		"html.http":           {Code: "provider_malformed"},
	},
}

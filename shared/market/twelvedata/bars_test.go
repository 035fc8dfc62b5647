package twelvedata_test

import (
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
)

func day(d int) time.Time { return time.Date(2024, 3, d, 0, 0, 0, 0, time.UTC) }

// minutes is a question about 12 March.
func minutes(interval market.Interval, now time.Time, bars ...string) conformance.WantBars {
	return conformance.WantBars{Interval: interval, From: day(12), To: day(13), Now: now, Bars: bars}
}

var history = conformance.Bars{
	Close: `"172.75000"`, Bar: 1,
	Recorded: map[string]conformance.WantBars{
		"ok.http": {
			Interval: market.Day, From: day(8), To: day(13), Now: day(13).Add(5 * time.Hour),
			Bars: []string{"2024-03-08T00:00:00Z 170.73", "2024-03-11T00:00:00Z 172.75", "2024-03-12T00:00:00Z 173.23 unfinished"},
		},
		"oldest_first.http": {Interval: market.Day, From: day(1), To: day(9), Now: day(9).Add(6 * time.Hour), Bars: []string{
			"2024-03-07T00:00:00Z 169", "2024-03-08T00:00:00Z 170.73",
		}},
		"minutes.http": minutes(market.FiveMinutes, day(12).Add(13*time.Hour+44*time.Minute),
			"2024-03-12T13:30:00Z 173", "2024-03-12T13:40:00Z 172.83501 unfinished"),
		"hours.http": minutes(market.Hour, day(12).Add(21*time.Hour+30*time.Minute), "2024-03-12T18:30:00Z 173.12", "2024-03-12T19:30:00Z 173.23"),
		"odd_time.http": {
			Interval: market.FiveMinutes, From: day(12), To: day(13), Now: day(13), Code: "provider_malformed",
		},
		"date_for_minutes.http": {
			Interval: market.FiveMinutes, From: day(12), To: day(13), Now: day(13), Code: "provider_malformed",
		},
		"no_data.http":        minutes(market.Day, day(13)),
		"no_data_on_200.http": minutes(market.Day, day(13)),
		"bad_parameter.http":  {Code: "provider_malformed"},
		"unknown_symbol.http": {Code: "symbol_not_found"},
		"limit_minute.http":   {Code: "provider_rate_limited", Wait: time.Minute},
		"limit_day.http":      {Code: "provider_rate_limited", Midnight: true},
		"bad_key.http":        {Code: "provider_auth"},
		"no_values.http":      {Code: "provider_malformed"},
	},
}

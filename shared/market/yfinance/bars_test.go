package yfinance_test

import (
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
)

// day returns a date in March 2024. The clocks of New York changed on the 10th.
func day(d int) time.Time { return time.Date(2024, 3, d, 0, 0, 0, 0, time.UTC) }

var (
	days    = conformance.WantBars{Interval: market.Day, From: day(7), To: day(14), Now: day(13)}
	minutes = conformance.WantBars{Interval: market.FiveMinutes, From: day(12), To: day(13), Now: day(12).Add(13*time.Hour + 42*time.Minute + 5*time.Second)}
)

// with returns a question with its outcome.
func with(w conformance.WantBars, bars ...string) conformance.WantBars {
	w.Bars = bars
	return w
}

var history = conformance.Bars{
	Splits: true, Rounded: true,
	Close: "172.75", Bar: 2,
	Recorded: map[string]conformance.WantBars{
		// The first two sessions began at another offset than that of the answer. The time of the last bar is that of its last trade.
		"ok.http": with(days, "2024-03-07T00:00:00Z 169", "2024-03-08T00:00:00Z 170.73", "2024-03-11T00:00:00Z 172.75", "2024-03-12T00:00:00Z 173.23"),
		"unfinished.http": with(at(days, day(12).Add(15*time.Hour)), "2024-03-07T00:00:00Z 169", "2024-03-08T00:00:00Z 170.73", "2024-03-11T00:00:00Z 172.75",
			"2024-03-12T00:00:00Z 173.05 unfinished"),
		"day_twice.http": with(at(days, day(12).Add(15*time.Hour)), "2024-03-07T00:00:00Z 169", "2024-03-08T00:00:00Z 170.73", "2024-03-11T00:00:00Z 172.75",
			"2024-03-12T00:00:00Z 173.05 unfinished"),
		"null_close.http": with(days, "2024-03-07T00:00:00Z 169", "2024-03-12T00:00:00Z 173.23"),
		// The last trade was before the end: only our clock tells that the session has ended.
		"thin_trading.http": with(days, "2024-03-07T00:00:00Z 169", "2024-03-08T00:00:00Z 170.73", "2024-03-11T00:00:00Z 172.75", "2024-03-12T00:00:00Z 173"),

		"split.http":                     splitOf(4, 1, "2020-08-28T00:00:00Z 124.81", "2020-08-31T00:00:00Z 129.04", "2020-09-01T00:00:00Z 134.18"),
		"split_ratio_with_decimals.http": splitOf(15, 10, "2020-08-31T00:00:00Z 129.04"),
		"split_without_ratio.http":       {Code: "provider_malformed"},

		"midnight_in_london.http": with(conformance.WantBars{
			Interval: market.Day, From: time.Date(2024, 10, 20, 0, 0, 0, 0, time.UTC), To: time.Date(2024, 11, 7, 0, 0, 0, 0, time.UTC),
			Now: time.Date(2024, 11, 5, 23, 59, 40, 0, time.UTC), // Yahoo says that the session ends at 23:59
		}, "2024-10-25T00:00:00Z 1.0827", "2024-10-28T00:00:00Z 1.0791", "2024-10-29T00:00:00Z 1.0811", "2024-11-05T00:00:00Z 1.0929 unfinished"),
		"midnight_in_london_in_summer.http": with(conformance.WantBars{
			Interval: market.Day, From: day(20), To: day(40), Now: time.Date(2024, 4, 2, 0, 3, 0, 0, time.UTC),
		}, "2024-03-28T00:00:00Z 1.0828", "2024-03-29T00:00:00Z 1.0789", "2024-04-01T00:00:00Z 1.079", "2024-04-02T00:00:00Z 1.0741 unfinished"),
		// Sessions begin at 23:00 or 00:00 UTC, depending on the season.
		"sydney.http": with(conformance.WantBars{Interval: market.Day, From: day(30), To: day(50), Now: time.Date(2024, 4, 9, 7, 0, 0, 0, time.UTC)},
			"2024-04-04T00:00:00Z 45.05", "2024-04-05T00:00:00Z 44.99", "2024-04-08T00:00:00Z 45.32", "2024-04-09T00:00:00Z 45.85"),
		"small_prices.http": with(days, "2024-03-11T00:00:00Z 0.000033"),

		"minutes.http":               with(minutes, "2024-03-12T13:30:00Z 173", "2024-03-12T13:40:00Z 172.83 unfinished"),
		"minutes_after_the_end.http": with(at(minutes, day(12).Add(20*time.Hour)), "2024-03-12T19:50:00Z 173", "2024-03-12T19:55:00Z 173.1"),
		"hours.http": with(conformance.WantBars{Interval: market.Hour, From: day(12), To: day(13), Now: day(12).Add(21 * time.Hour)},
			"2024-03-12T13:30:00Z 172.9", "2024-03-12T14:30:00Z 173.1", "2024-03-12T19:30:00Z 173.23"),

		"empty.http":                  days,
		"before_the_first_trade.http": days,
		"too_old.http":                days,
		"too_many_days.http":          {Code: "provider_malformed"},
		"unknown_symbol.http":         {Code: "symbol_not_found"},
		"limit.http":                  {Code: "provider_rate_limited", Wait: time.Minute},
		"html.http":                   {Code: "provider_malformed"},
		"lengths_differ.http":         {Code: "provider_malformed"},
		"no_price_hint.http":          {Code: "provider_malformed"},
		"no_clock.http":               {Code: "provider_malformed"},
	},
}

func at(w conformance.WantBars, now time.Time) conformance.WantBars {
	w.Now = now
	return w
}

func splitOf(numerator, denominator int64, bars ...string) conformance.WantBars {
	return conformance.WantBars{
		Interval: market.Day, From: time.Date(2020, 8, 28, 0, 0, 0, 0, time.UTC), To: time.Date(2020, 9, 2, 0, 0, 0, 0, time.UTC), Now: day(13), Bars: bars,
		Splits: []market.Split{{At: time.Date(2020, 8, 31, 13, 30, 0, 0, time.UTC), Numerator: numerator, Denominator: denominator}},
	}
}

package market

import (
	"context"
	"slices"
	"strings"
	"time"

	"marketdata/shared/fault"
)

// Interval is the length of a bar, one of [Intervals]. Its text is that of the API: 1m, 1h, 1d.
type Interval string

// The intervals that providers have in common.
const (
	Minute      Interval = "1m"
	FiveMinutes Interval = "5m"
	QuarterHour Interval = "15m"
	Hour        Interval = "1h"
	Day         Interval = "1d"
)

// Intervals lists all intervals, from the shortest to the longest. Read-only.
var Intervals = []Interval{Minute, FiveMinutes, QuarterHour, Hour, Day}

// ParseInterval reads an interval. Errors are Invalid with code "invalid_parameter".
func ParseInterval(s string) (Interval, error) {
	if i := Interval(s); slices.Contains(Intervals, i) {
		return i, nil
	}
	return "", fault.New(fault.Invalid, fault.CodeInvalidParameter, "interval must be one of 1m, 5m, 15m, 1h, 1d")
}

// Duration returns the interval's length; 0 for one that is not in [Intervals]. A day has 24 hours, although its session is shorter.
func (i Interval) Duration() time.Duration {
	switch i {
	case Minute:
		return time.Minute
	case FiveMinutes:
		return 5 * time.Minute
	case QuarterHour:
		return 15 * time.Minute
	case Hour:
		return time.Hour
	case Day:
		return 24 * time.Hour
	}
	return 0
}

// BarSeries returns the name under which a provider's bars are a series of their own, in place of the provider's name: yfinance-1d.
func BarSeries(provider string, interval Interval) string { return provider + "-" + string(interval) }

// ParseBarSeries is the reverse of [BarSeries]; false if name does not end with an interval. It does not check that there is such a
// provider.
func ParseBarSeries(name string) (provider string, interval Interval, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 1 || !slices.Contains(Intervals, Interval(name[i+1:])) {
		return "", "", false
	}
	return name[:i], Interval(name[i+1:]), true
}

// Bar is the close of one interval.
type Bar struct {
	Start time.Time // UTC. A daily bar starts at 00:00 UTC of its trading day, wherever the exchange is
	Close Price
	Final bool // the interval has ended, so that the close does not change any more, except by a split
}

// Split is a change in the number of shares: Numerator new ones for Denominator old ones.
type Split struct {
	At                     time.Time // UTC; the open of the first session with new shares
	Numerator, Denominator int64     // greater than 0
}

// History is one answer of a [Historian].
type History struct {
	// Bars are in order, with one for each start. An interval without a bar is no error: a holiday, an interval without trades, or a
	// close that the provider lost.
	Bars []Bar
	// Splits are those that the answer lists for the range and a day around it, so that a split may be in several answers. Only
	// yfinance lists splits.
	Splits []Split
	// Next is where the next call continues; zero if the answer covers the range to its end.
	Next time.Time
}

// Historian fetches bars. A [Provider] that has a history is one, too.
//
// After a split, yfinance and twelve_data return all closes in new shares, those before the split, too; alpha_vantage returns
// closes as traded. Coins, and so binance and coinbase, have no splits.
type Historian interface {
	// Intervals returns the intervals that the provider has, from the shortest to the longest. Read-only.
	Intervals() []Interval
	// Bars fetches the bars that start in [from, to), with one call, or with none if the range is empty. One answer may cover only a
	// part of the range, see [History]; it may be empty. The response is the evidence for the bars; it is zero without a call. Errors
	// are those of [Provider].Latest, and invalid_parameter (Invalid) for an interval that the provider does not have. After an error
	// the history is zero. Bars must be safe for concurrent use, and must end when ctx does.
	Bars(ctx context.Context, symbol Symbol, interval Interval, from, to time.Time) (History, Response, error)
}

package upstream

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// CheckInterval returns invalid_parameter if the provider does not have the interval.
func CheckInterval(provider string, interval market.Interval, offered []market.Interval) error {
	if slices.Contains(offered, interval) {
		return nil
	}
	return fault.New(fault.Invalid, fault.CodeInvalidParameter, "%s has no bars of interval %q", provider, interval)
}

// Part returns the end of the first part of a range that holds at most that many bars, and where the next part begins; zero if there
// is none.
func Part(interval market.Interval, from, to time.Time, bars int) (end, next time.Time) {
	if end = from.Add(time.Duration(bars) * interval.Duration()); end.Before(to) {
		return end, end
	}
	return to, time.Time{}
}

// IsMissing reports whether a close is null or 0, which mean that the provider has none for the interval.
func IsMissing(digits *json.Number) bool {
	return digits == nil || strings.Trim(digits.String(), "0.") == "" && digits.String() != ""
}

// Finish returns the bars of an answer as a history has them: in order, with the last in the answer of those that start at the same
// time, and without those outside [from, to). A bar is final once a later one exists, or its interval, which ends at end(start), has
// ended at clock. Without a clock of the provider that is ours, less a margin for its lead and for delayed data.
func Finish(bars []market.Bar, from, to, clock time.Time, end func(start time.Time) time.Time) []market.Bar {
	slices.SortStableFunc(bars, func(a, b market.Bar) int { return a.Start.Compare(b.Start) })
	kept := bars[:0]
	for _, b := range bars {
		if n := len(kept); n > 0 && kept[n-1].Start.Equal(b.Start) {
			kept = kept[:n-1]
		}
		kept = append(kept, b)
	}
	for i := range kept {
		kept[i].Final = i < len(kept)-1 || !end(kept[i].Start).After(clock)
	}
	kept = slices.DeleteFunc(kept, func(b market.Bar) bool { return b.Start.Before(from) || !b.Start.Before(to) })
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// Start returns the start of a bar in UTC. One that is not a multiple of the interval since 1970 is provider_malformed: all intervals
// of a market that never closes begin so.
func Start(at time.Time, interval time.Duration) (time.Time, error) {
	at, err := Observed(at)
	if err != nil {
		return time.Time{}, err
	}
	if !at.Equal(at.Truncate(interval)) {
		return time.Time{}, Malformed(nil, "a bar does not begin with its interval")
	}
	return at, nil
}

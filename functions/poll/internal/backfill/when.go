package backfill

import (
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const (
	checkEvery = 24 * time.Hour
	// settle is how long after the end of an interval a provider is asked for its bar.
	settle = 10 * time.Second
	// over is how long after its end a range can still get bars.
	over = 15 * time.Minute
	// An interval may have no bar: no trade, no session. The wait for the next doubles from firstIdle to longestIdle, or to one interval
	// if that is longer.
	firstIdle   = 30 * time.Second
	longestIdle = 15 * time.Minute
	// Waits after failures double, too. A symbol that the provider does not know is asked for rarely: it may be listed one day.
	firstRetry, longestRetry     = 5 * time.Second, 15 * time.Minute
	firstUnknown, longestUnknown = time.Hour, 24 * time.Hour
)

// daily is when daily bars become final (UTC): sessions in New York end at 20:00 or 21:00, those of Europe and Asia before, and the day
// of a coin at midnight. Twelve Data does not say which exchange's day a bar is of, so that its bars wait for the last, until 06:00.
var daily = []time.Duration{10 * time.Minute, 6*time.Hour + 10*time.Minute, firstDaily, firstDaily + time.Hour}

// firstDaily is when a bar may be final on its own day.
const firstDaily = 20*time.Hour + 10*time.Minute

// wait sets when a series that is covered is asked for next. news means that the answer had a new bar, whole that it had no unfinished
// one.
func (s *Series) wait(now time.Time, news, whole bool) {
	if s.Idle++; news {
		s.Idle = 0
	}
	if s.Complete && whole && !s.End.IsZero() && !now.Before(s.End.Add(over)) {
		s.Done = true
	}
	if s.Interval == market.Day {
		s.NotBefore = nextDaily(now, s.NextFrom)
	} else {
		step := s.Interval.Duration()
		s.NotBefore = s.NextFrom.Add(step + settle)
		if !s.NotBefore.After(now) {
			s.NotBefore = now.Add(doubled(firstIdle, max(s.Idle-1, 0), max(longestIdle, step)))
		}
	}
	if !s.CheckAt.IsZero() {
		s.NotBefore = earlier(s.NotBefore, s.CheckAt)
	}
}

// nextDaily returns the first time after now at which the bar of a day, or a later one, may have become final.
func nextDaily(now, day time.Time) time.Time {
	from := latest(now, day.Truncate(24*time.Hour).Add(firstDaily-1)).UTC()
	for midnight := from.Truncate(24 * time.Hour); ; midnight = midnight.Add(24 * time.Hour) {
		for _, at := range daily {
			if t := midnight.Add(at); t.After(from) {
				return t
			}
		}
	}
}

// doubled returns first × 2^n, at most longest.
func doubled(first time.Duration, n int, longest time.Duration) time.Duration {
	return min(first<<min(n, 20), longest)
}

// Failed returns the series after a call that failed. A limit that is spent is no failure: the series waits for it.
func (s Series) Failed(err error, now time.Time) Series {
	code := fault.CodeOf(err)
	var after time.Duration
	if f, ok := fault.As(err); ok {
		after = f.RetryAfter
	}
	switch code {
	case fault.CodeProviderRateLimited:
		s.NotBefore = now.Add(max(after, time.Second))
	case fault.CodeSymbolNotFound:
		s.NotBefore = now.Add(max(after, doubled(firstUnknown, s.Failures, longestUnknown)))
		s.Failures++
	default:
		s.NotBefore = now.Add(max(after, doubled(firstRetry, s.Failures, longestRetry)))
		s.Failures++
	}
	s.LastCode = code
	return s
}

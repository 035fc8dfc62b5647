package backfill

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02T15:04:05Z", text)
	require.NoError(t, err)
	return v
}

// A bar is asked for when it can be final, then with waits that grow. The series has everything up to the time of from.
func TestWhenTheNextBarIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interval        market.Interval
		from, now, want string
		idle            int // answers without a bar before this one
		news            bool
	}{
		"a minute, ten seconds after its end":          {market.Minute, "2024-06-03T14:00:00Z", "2024-06-03T14:00:12Z", "2024-06-03T14:01:10Z", 3, true},
		"a minute that is not there yet":               {market.Minute, "2024-06-03T14:00:00Z", "2024-06-03T14:01:12Z", "2024-06-03T14:01:42Z", 0, false},
		"the third answer without it":                  {market.Minute, "2024-06-03T14:00:00Z", "2024-06-03T14:03:12Z", "2024-06-03T14:05:12Z", 2, false},
		"a night":                                      {market.Minute, "2024-06-03T20:00:00Z", "2024-06-04T02:00:00Z", "2024-06-04T02:15:00Z", 30, false},
		"a night of hours":                             {market.Hour, "2024-06-03T20:00:00Z", "2024-06-04T02:00:00Z", "2024-06-04T03:00:00Z", 30, false},
		"an hour":                                      {market.Hour, "2024-06-03T14:00:00Z", "2024-06-03T14:10:00Z", "2024-06-03T15:00:10Z", 0, true},
		"a day, after the session in summer":           {market.Day, "2024-06-03T00:00:00Z", "2024-06-03T10:00:00Z", "2024-06-03T20:10:00Z", 0, true},
		"a day that is not final, after winter's":      {market.Day, "2024-06-03T00:00:00Z", "2024-06-03T20:10:02Z", "2024-06-03T21:10:00Z", 0, false},
		"a day that is not final then: a coin's":       {market.Day, "2024-06-03T00:00:00Z", "2024-06-03T21:10:02Z", "2024-06-04T00:10:00Z", 0, false},
		"a day that is not final then: Twelve Data's":  {market.Day, "2024-06-03T00:00:00Z", "2024-06-04T00:10:02Z", "2024-06-04T06:10:00Z", 0, false},
		"a day that is there: the next one's session":  {market.Day, "2024-06-04T00:00:00Z", "2024-06-03T20:10:02Z", "2024-06-04T20:10:00Z", 0, true},
		"a holiday: the next day's session":            {market.Day, "2024-06-03T00:00:00Z", "2024-06-04T06:10:02Z", "2024-06-04T20:10:00Z", 2, false},
		"the day before yesterday, after a long pause": {market.Day, "2024-06-01T00:00:00Z", "2024-06-03T20:30:00Z", "2024-06-03T21:10:00Z", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Series{Interval: c.interval, NextFrom: at(t, c.from), Idle: c.idle, Complete: true}
			s.wait(at(t, c.now), c.news, true)
			require.Equal(t, c.want, s.NotBefore.Format(time.RFC3339))
			require.False(t, s.Done, "it follows")
		})
	}
}

func TestARangeWithAnEndIsDone(t *testing.T) {
	t.Parallel()
	end := at(t, "2024-06-03T00:00:00Z")
	for name, c := range map[string]struct {
		now      string
		complete bool
		whole    bool
		done     bool
	}{
		"long past":                  {"2024-07-01T00:00:00Z", true, true, true},
		"it may still get a bar":     {"2024-06-03T00:10:00Z", true, true, false},
		"its last bar is unfinished": {"2024-06-03T01:00:00Z", true, false, false},
		"not in the same shares":     {"2024-07-01T00:00:00Z", false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Series{Interval: market.Day, NextFrom: end, End: end, Complete: c.complete}
			s.wait(at(t, c.now), true, c.whole)
			require.Equal(t, c.done, s.Done)
		})
	}
}

func TestAfterAFailure(t *testing.T) {
	t.Parallel()
	now := at(t, "2024-06-03T14:00:00Z")
	down := fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
	unknown := fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
	for name, c := range map[string]struct {
		err      error
		failures int
		wait     time.Duration
		counts   bool
	}{
		"the first":                        {down, 0, 5 * time.Second, true},
		"the fourth":                       {down, 3, 40 * time.Second, true},
		"the hundredth":                    {down, 99, 15 * time.Minute, true},
		"the provider says when":           {down.After(time.Hour), 0, time.Hour, true},
		"a symbol that nobody knows":       {unknown, 0, time.Hour, true},
		"a symbol that nobody ever knew":   {unknown, 9, 24 * time.Hour, true},
		"a spent budget is no failure":     {fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "x").After(9 * time.Second), 2, 9 * time.Second, false},
		"a spent budget that says nothing": {fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "x"), 2, time.Second, false},
		"a defect":                         {errors.New("x"), 0, 5 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Series{Failures: c.failures, NextFrom: now}.Failed(c.err, now)
			require.Equal(t, c.wait, s.NotBefore.Sub(now))
			require.Equal(t, c.counts, s.Failures > c.failures)
			require.Equal(t, fault.CodeOf(c.err), s.LastCode)
		})
	}
}

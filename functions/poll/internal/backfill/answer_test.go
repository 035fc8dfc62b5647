package backfill

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

var monday = time.Date(2024, 6, 3, 0, 0, 0, 0, time.UTC)

func day(n int) time.Time { return monday.AddDate(0, 0, n) }

func price(t *testing.T, v float64) market.Price {
	t.Helper()
	p, err := market.ParsePrice(fmt.Sprintf("%.2f", v))
	require.NoError(t, err)
	return p
}

// bars returns final daily bars by day; a negative close is that of an unfinished one, and 0 none.
func bars(t *testing.T, from int, closes ...float64) (all []market.Bar) {
	t.Helper()
	for i, v := range closes {
		if v != 0 {
			all = append(all, market.Bar{Start: day(from + i), Close: price(t, max(v, -v)), Final: v > 0})
		}
	}
	return all
}

func starts(all []market.Bar) (days []int) {
	for _, b := range all {
		days = append(days, int(b.Start.Sub(monday)/(24*time.Hour)))
	}
	return days
}

// following returns a series with closes of 10, 11, … on the days 0 to 4.
func following(t *testing.T, adjusts bool) Series {
	t.Helper()
	s := Series{Symbol: "AAPL", Provider: "p", Interval: market.Day, Start: day(0), NextFrom: day(0), Adjusts: adjusts}
	s, sent, split, err := s.Read(s.Plan(day(5)), market.History{Bars: bars(t, 0, 10, 11, 12, 13, 14)}, day(5))
	require.NoError(t, err)
	require.False(t, split)
	require.Len(t, sent, 5)
	require.True(t, s.Complete)
	require.Equal(t, day(5), s.NextFrom)
	return s
}

func TestAnAnswerToAFollower(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bars    []market.Bar
		splits  bool // a split is the answer
		sent    []int
		bars_   int64
		missing int64
		last    int
	}{
		"the next bar":                      {bars(t, 0, 10, 11, 12, 13, 14, 0, 0, 15), false, []int{7}, 6, 0, 7},
		"nothing new":                       {bars(t, 0, 10, 11, 12, 13, 14), false, nil, 5, 0, 4},
		"an unfinished bar":                 {bars(t, 0, 10, 11, 12, 13, 14, 0, 0, -15), false, nil, 5, 0, 4},
		"a holiday":                         {bars(t, 0, 10, 11, 12, 13, 14, 0, 0, 0, 16), false, []int{8}, 6, 1, 8},
		"a small correction":                {bars(t, 0, 10, 11, 12, 13.01, 14), false, []int{3}, 5, 0, 4},
		"two corrections may be a split":    {bars(t, 0, 10, 11, 12.01, 13.01, 14), true, nil, 0, 0, 0},
		"one close that moved far, too":     {bars(t, 0, 10, 11, 12, 13, 12.7), true, nil, 0, 0, 0},
		"2:1":                               {bars(t, 0, 5, 5.5, 6, 6.5, 7, 0, 0, 7.5), true, nil, 0, 0, 0},
		"a close that is gone stays":        {bars(t, 0, 10, 11, 0, 13, 14, 0, 0, 15), false, []int{7}, 6, 0, 7},
		"a known bar that is unfinished":    {bars(t, 0, 10, 11, 12, 13, -7), false, nil, 5, 0, 4},
		"all bars are gone: an empty range": {nil, false, nil, 5, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := following(t, true)
			s.CheckAt = day(30)
			now := day(8)
			next, sent, split, err := s.Read(Step{Interval: market.Day, From: s.Start, To: now}, market.History{Bars: c.bars}, now)
			require.NoError(t, err)
			require.Equal(t, c.splits, split)
			if split {
				return
			}
			require.Equal(t, c.sent, starts(sent))
			require.Equal(t, c.bars_, next.Bars)
			require.Equal(t, c.missing, next.Missing)
			require.Equal(t, day(c.last), next.Last)
			require.Equal(t, day(c.last+1), next.NextFrom)
			require.True(t, next.NotBefore.After(now))
		})
	}
}

// Closes of a provider that does not adjust them are sent as they are.
func TestClosesAsTraded(t *testing.T) {
	t.Parallel()
	s := following(t, false)
	next, sent, split, err := s.Read(s.Plan(day(8)), market.History{Bars: bars(t, 0, 5, 5.5, 6, 6.5, 7)}, day(8))
	require.NoError(t, err)
	require.False(t, split)
	require.Len(t, sent, 5)
	require.True(t, next.CheckAt.IsZero(), "there is nothing to check")
}

// A bar that the provider lost is sent when it appears.
func TestABarThatComesLate(t *testing.T) {
	t.Parallel()
	s := Series{Interval: market.Day, Start: day(0), NextFrom: day(0)}
	s, _, _, err := s.Read(s.Plan(day(5)), market.History{Bars: bars(t, 0, 10, 0, 12, 13)}, day(5))
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Missing)
	s, sent, _, err := s.Read(s.Plan(day(5)), market.History{Bars: bars(t, 0, 10, 11, 12, 13, 14)}, day(5))
	require.NoError(t, err)
	require.Equal(t, []int{1, 4}, starts(sent))
	require.Zero(t, s.Missing)
	require.EqualValues(t, 5, s.Bars)
}

// A history that needs several answers is checked at its end; one answer with everything is its own check.
func TestChecks(t *testing.T) {
	t.Parallel()
	whole := following(t, true)
	require.Equal(t, day(6), whole.CheckAt)
	require.Equal(t, Step{Check: true, Interval: market.Day, From: day(0), To: day(6)}, whole.Plan(day(6)), "a day later")
	require.False(t, whole.Plan(day(6).Add(-1)).Check)

	s := Series{Interval: market.Day, Start: day(0), NextFrom: day(0), Adjusts: true}
	s, _, _, err := s.Read(s.Plan(day(5)), market.History{Bars: bars(t, 0, 10, 11, 12), Next: day(3)}, day(5))
	require.NoError(t, err)
	require.Equal(t, Step{Interval: market.Day, From: day(0), To: day(5)}, s.Plan(day(5)), "the next answer has an overlap")
	s, sent, _, err := s.Read(s.Plan(day(5)), market.History{Bars: bars(t, 0, 10, 11, 12, 13, 14)}, day(5))
	require.NoError(t, err)
	require.Equal(t, []int{3, 4}, starts(sent))
	require.False(t, s.Complete)
	check := s.Plan(day(5))
	require.True(t, check.Check)
	same := market.History{Bars: bars(t, 0, 10, 11)}
	done, sent, split, err := s.Read(check, same, day(5))
	require.NoError(t, err)
	require.False(t, split)
	require.Empty(t, sent)
	require.True(t, done.Complete)

	for name, other := range map[string]market.History{
		"the first close changed": {Bars: bars(t, 0, 5, 11)},
		"a split is listed":       {Bars: bars(t, 0, 10, 11), Splits: []market.Split{{At: day(2), Numerator: 2, Denominator: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, split, err := s.Read(check, other, day(5))
			require.NoError(t, err)
			require.True(t, split)
		})
	}
	t.Run("the first close was lost and comes late", func(t *testing.T) {
		t.Parallel()
		_, _, split, err := s.Read(check, market.History{Bars: bars(t, 0, 0, 11)}, day(5))
		require.NoError(t, err)
		require.False(t, split)
	})
	t.Run("hours are checked by days, before the first answer, too", func(t *testing.T) {
		t.Parallel()
		s := Series{Interval: market.Hour, Start: day(0), NextFrom: day(0), Adjusts: true}
		check := s.Plan(day(1))
		require.Equal(t, Step{Check: true, Interval: market.Day, From: day(0), To: day(1)}, check)
		s, _, _, err := s.Read(check, same, day(1))
		require.NoError(t, err)
		require.False(t, s.Plan(day(1)).Check)
	})
}

// An answer that does not come further would be asked for without end.
func TestAnAnswerThatStandsStill(t *testing.T) {
	t.Parallel()
	s := Series{Interval: market.Day, Start: day(0), NextFrom: day(2)}
	_, _, _, err := s.Read(s.Plan(day(5)), market.History{Next: day(2)}, day(5))
	require.ErrorContains(t, err, "provider_malformed")
}

func TestMissingBars(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interval market.Interval
		a, b     time.Time
		want     int64
	}{
		"neighbours":            {market.Day, day(0), day(1), 0},
		"a weekend":             {market.Day, day(4), day(7), 0},
		"a holiday on a Monday": {market.Day, day(4), day(8), 1},
		"a week":                {market.Day, day(0), day(7), 4},
		"minutes":               {market.Minute, day(0), day(0).Add(4 * time.Minute), 3},
		"a night":               {market.Minute, day(0).Add(20 * time.Hour), day(1).Add(13 * time.Hour), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, gap(c.a, c.b, c.interval))
		})
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 6, 3, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		interval   market.Interval
		start, end string
		refused    string
	}{
		"days that are followed":   {market.Day, "2000-01-01", "", ""},
		"a range":                  {market.Minute, "2024-06-01T00:00:00Z", "1717400000000", ""},
		"an end in the future":     {market.Day, "2024-01-01", "2030-01-01", ""},
		"no start":                 {market.Day, "", "", "start is missing"},
		"a start in the future":    {market.Day, "2024-06-04", "", "start must be in the past"},
		"the end before the start": {market.Day, "2024-06-02", "2024-06-01", "start must be before end"},
		"before 1970":              {market.Day, "1969-12-31", "", "start must not be before 1970"},
		"too many minutes":         {market.Minute, "2021-06-01", "", "choose a later start"},
		"not a time":               {market.Day, "yesterday", "", "start"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := Parse([]market.Symbol{"A"}, "p", c.interval, c.start, c.end, now)
			if c.refused != "" {
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.end == "", parsed.End == nil)
		})
	}
}

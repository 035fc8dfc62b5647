//go:build integration

package backfill_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/market"
)

// ratios are those of the symbols, each of which has one split.
var ratios = map[market.Symbol][2]int64{"2:1": {2, 1}, "3:2": {3, 2}, "1:190": {1, 190}, "1.1:1": {11, 10}}

// A split never lies: whenever it is announced or taken back, afterwards every close is the market's own, in today's shares. While the
// points are of different shares, the series says that it is adjusting.
func TestSplits(t *testing.T) {
	t.Parallel()
	today, old := polltest.Day(3), polltest.Day(200)
	for name, c := range map[string]struct {
		at        time.Time // of the split
		takenBack bool      // it was announced from the start
		lists     bool      // else the provider lists no splits
	}{
		"announced": {today, false, true}, "announced, not listed": {today, false, false},
		"late": {old, false, true}, "late, not listed": {old, false, false},
		"taken back": {today, true, true}, "taken back late": {old, true, false},
	} {
		for moment, play := range map[string]func(t *testing.T, b *bundle, change func(market.Symbol)){
			"while it follows": whileItFollows, "in the middle of a backfill": inTheMiddle, "during a downtime": duringADowntime,
		} {
			t.Run(name+" "+moment, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				b.market.Unlists = !c.lists
				start, symbols := polltest.Day(500), slices.Sorted(maps.Keys(ratios))
				split := func(s market.Symbol) { b.market.Announce(s, polltest.Ratio(c.at, ratios[s][0], ratios[s][1])) }
				whole := func(s market.Symbol) { b.market.Announce(s) }
				if c.takenBack {
					split, whole = whole, split
				}
				shares := map[market.Symbol][]map[string]string{} // the closes before and after
				for _, s := range symbols {
					for _, change := range []func(market.Symbol){split, whole} {
						change(s)
						shares[s] = append(shares[s], b.market.Closes(s, start))
					}
				}
				b.market.During = func(s market.Symbol, _ int) { b.neverLies(t, s, shares[s]) }
				b.create(t, start, time.Time{}, symbols...)
				play(t, b, split)
				for _, s := range symbols {
					require.Equal(t, b.market.Closes(s, start), b.closes(s, start), s)
					require.False(t, b.mixed(t, s))
				}
			})
		}
	}
}

// neverLies requires that the points are all of one kind of shares, or the series says that it is adjusting.
func (b *bundle) neverLies(t *testing.T, s market.Symbol, shares []map[string]string) {
	t.Helper()
	if b.mixed(t, s) {
		return
	}
	points := b.closes(s, time.Time{})
	for _, closes := range shares {
		maps.DeleteFunc(points, func(day, price string) bool { return closes[day] == price })
		if len(points) == 0 {
			return
		}
		points = b.closes(s, time.Time{})
	}
	t.Errorf("%s is of several kinds of shares", s)
}

func whileItFollows(t *testing.T, b *bundle, change func(market.Symbol)) {
	t.Helper()
	b.market.Set(polltest.Day(3))
	b.tick(t)
	b.market.Set(polltest.Day(2))
	for s := range ratios {
		change(s)
	}
	b.soon(t)
	b.tick(t)
	b.later(t)
	b.tick(t)
}

func inTheMiddle(t *testing.T, b *bundle, change func(market.Symbol)) {
	t.Helper()
	b.market.Set(polltest.Day(1))
	b.market.Limit = 120
	check := b.market.During
	b.market.During = func(s market.Symbol, n int) {
		check(s, n)
		if n == 4 { // a split of long ago lies in the answers before this one
			change(s)
		}
	}
	b.tick(t)
}

func duringADowntime(t *testing.T, b *bundle, change func(market.Symbol)) {
	t.Helper()
	b.market.Set(polltest.Day(8))
	b.tick(t)
	for s := range ratios {
		change(s)
	}
	b.market.Set(polltest.Day(1))
	b.later(t)
	b.tick(t)
}

// A split that comes and goes while a history is fetched leaves no trace.
func TestASplitThatComesAndGoes(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{"after all answers": polltest.Day(3), "before most answers": polltest.Day(450)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.market.Limit = 100
			start := polltest.Day(500)
			b.market.During = func(_ market.Symbol, n int) {
				switch n {
				case 3:
					b.market.Announce("AAPL", polltest.Ratio(at, 2, 1))
				case 4:
					b.market.Announce("AAPL")
				}
			}
			b.create(t, start, time.Time{}, "AAPL")
			b.tick(t)
			require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
			require.False(t, b.mixed(t, "AAPL"))
		})
	}
}

// While the history is fetched again, the series is adjusting, and so it stays if the provider fails then.
func TestAdjustingLastsUntilTheHistoryIsComplete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := polltest.Day(500)
	b.market.Set(polltest.Day(3))
	id := b.create(t, start, time.Time{}, "AAPL")
	b.tick(t)
	require.False(t, b.mixed(t, "AAPL"))
	b.market.Announce("AAPL", polltest.Ratio(polltest.Day(3), 2, 1))
	b.market.Limit = 100
	calls := b.market.Calls()
	b.market.Fail = func() error {
		if b.market.Calls() > calls+3 {
			return polltest.Limited(time.Minute)
		}
		return nil
	}
	b.soon(t)
	b.tick(t)
	require.True(t, b.mixed(t, "AAPL"))
	s := b.series(t, id)
	require.Equal(t, 1, s.Generation)
	require.False(t, s.Complete)
	b.market.Fail = nil
	b.soon(t)
	b.tick(t)
	require.False(t, b.mixed(t, "AAPL"))
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
}

// Two backfills of one series: a new one makes the old one look for splits at once, even if that is done.
func TestBackfillsOfOneSeriesAreInTheSameShares(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start, middle := polltest.Day(500), polltest.Day(250)
	done := b.create(t, start, middle, "AAPL")
	b.tick(t)
	require.True(t, b.series(t, done).Done)
	b.market.Announce("AAPL", polltest.Ratio(polltest.Day(3), 2, 1))
	b.create(t, middle, time.Time{}, "AAPL")
	b.tick(t)
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
	require.False(t, b.mixed(t, "AAPL"))
	require.True(t, b.series(t, done).Done)
	require.NoError(t, b.store.RemoveBackfill(t.Context(), done))
	b.market.Announce("AAPL")
	b.later(t)
	b.tick(t)
	require.Equal(t, b.market.Closes("AAPL", middle), b.closes("AAPL", middle))
	require.True(t, b.mixed(t, "AAPL"), "nobody fetches the older closes again")
	require.Zero(t, b.Count(t, "select count(*) from bar_series where adjusting"), "but averages of the newer ones are right")
	require.Equal(t, market.Symbol("AAPL"), b.series(t, b.only(t)).Symbol)
}

// Coins have no splits to look for: a second backfill leaves the first one alone, which would otherwise be due for a check for good.
func TestBackfillsOfACoin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Called = "coinbase"
	b.ingest, b.Runner = b.replica(t, b.broker)
	b.create(t, polltest.Day(300), time.Time{}, "BTC-USD")
	b.tick(t)
	b.create(t, polltest.Day(200), time.Time{}, "BTC-USD")
	calls, stop := context.WithCancel(t.Context())
	defer stop()
	b.market.During = func(_ market.Symbol, n int) {
		if n == 10 {
			stop()
		}
	}
	require.NoError(t, b.Run(t.Context(), calls))
	require.Equal(t, 2, b.market.Calls(), "one for each backfill")
}

func (b *bundle) only(t *testing.T) (id string) {
	t.Helper()
	require.NoError(t, b.Pool.QueryRow(t.Context(), "select id from backfills").Scan(&id))
	return id
}

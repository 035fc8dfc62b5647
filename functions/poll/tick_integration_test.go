//go:build integration

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

// due makes jobs of a minute due again, for another period: all that is known becomes 61 seconds older.
func (b bundle) due(t *testing.T) {
	t.Helper()
	b.tick.lanes = nil // a gate is shut for a minute at most
	b.exec(t, "update polling_jobs set created_at = created_at - interval '61 seconds', next_run_at = next_run_at - interval '61 seconds'")
	b.exec(t, "update polling_series set attempted_at = attempted_at - interval '61 seconds', planned = planned - interval '61 seconds'")
}

func (b bundle) codes(t *testing.T, id string) map[market.Symbol]string {
	t.Helper()
	codes := map[market.Symbol]string{}
	for _, r := range b.show(t, id).Results {
		codes[r.Symbol] = "ok"
		if r.Code != nil {
			codes[r.Symbol] = *r.Code
		}
	}
	return codes
}

// A budget for two calls a tick serves a job of five symbols in turn, and another job's wish for one of them does not push it
// to the front.
func TestSymbolsTakeTurnsWithinABudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["A","B","C","D","E"]}`)
	room := 0
	b.ingest.reserve = func(string) error {
		if room == 0 {
			return limited(time.Hour)
		}
		room--
		return nil
	}
	for i, want := range [][]market.Symbol{{"A", "B"}, {"C", "D"}, {"E", "A"}, {"B", "C"}} {
		room, b.ingest.order = 2, nil
		require.NoError(t, b.tick.run(t.Context()))
		require.ElementsMatch(t, want, b.ingest.order, "tick %d", i)
		codes := b.codes(t, id)
		for _, s := range []market.Symbol{"A", "B", "C", "D", "E"} {
			expected := "provider_rate_limited"
			if slices.Contains(want, s) {
				expected = "ok"
			}
			require.Equal(t, expected, codes[s], "tick %d, %s", i, s)
		}
		b.due(t)
		if i == 1 {
			b.create(t, `{"symbols":["A"]}`)
			b.exec(t, "update polling_jobs set next_run_at = now() + interval '1 hour' where cardinality(symbols) = 1")
		}
	}
}

func TestATickWaitsForABudgetThatHasRoomInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["A","B","C"]}`)
	refusals := 0
	b.ingest.reserve = func(string) error {
		if refusals++; refusals%2 == 1 {
			return limited(20 * time.Millisecond)
		}
		return nil
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, map[market.Symbol]string{"A": "ok", "B": "ok", "C": "ok"}, b.codes(t, id))
	require.Zero(t, b.show(t, id).Failures)
}

// A provider that refuses by itself is left alone for as long as it says; it was nobody's turn.
func TestAProviderThatRefusesIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	symbols := make([]string, 40)
	for i := range symbols {
		symbols[i] = fmt.Sprintf("%q", fmt.Sprint("S", i))
	}
	id := b.create(t, `{"symbols":[`+strings.Join(symbols, ",")+`]}`)
	asked := 0
	b.ingest.answer = func(context.Context, string, market.Symbol) error {
		b.ingest.mu.Lock()
		defer b.ingest.mu.Unlock()
		asked++
		return limited(time.Hour)
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.LessOrEqual(t, asked, 2*slots)
	require.Len(t, b.codes(t, id), 40)
	var attempted int
	require.NoError(t, b.store.pool.QueryRow(t.Context(), "select count(attempted_at) from polling_series").Scan(&attempted))
	require.Zero(t, attempted)
}

// A budget that is being waited for holds up its own provider alone: another's job is fetched, recorded and due again meanwhile.
func TestProvidersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var slow []market.Symbol
	for i := range 2 * slots {
		slow = append(slow, market.Symbol(fmt.Sprint("S", i)))
	}
	_, err := b.store.create(t.Context(), jobConfig{Symbols: slow, Interval: 60, Provider: "slow"}, "", "")
	require.NoError(t, err)
	id := b.create(t, `{"symbols":["AAPL"]}`)
	stopping := make(chan struct{})
	b.tick.stopping = stopping
	b.ingest.reserve = func(provider string) error {
		if provider == "slow" {
			return limited(10 * time.Second)
		}
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- b.tick.run(context.Background()) }()
	require.Eventually(t, func() bool { return b.runs(t, id) == 1 }, 5*time.Second, time.Millisecond)
	require.Empty(t, ended)
	close(stopping)
	require.NoError(t, <-ended)
}

// A function that is told to stop makes no more calls. What it has is recorded, and what it did not come to is first next time.
func TestATickThatIsStoppedRecordsWhatItHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	symbols := make([]string, 3*slots)
	for i := range symbols {
		symbols[i] = fmt.Sprintf("%q", fmt.Sprint("S", i))
	}
	id := b.create(t, `{"symbols":[`+strings.Join(symbols, ",")+`]}`)
	stopping := make(chan struct{})
	b.tick.stopping = stopping
	entered := 0
	b.ingest.sweepHangs = true
	b.ingest.answer = func(ctx context.Context, _ string, _ market.Symbol) error {
		b.ingest.mu.Lock()
		if entered++; entered == slots {
			close(stopping)
		}
		b.ingest.mu.Unlock()
		<-ctx.Done()
		return nil // it was under way, and ended well
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	count := map[string]int{}
	for _, code := range b.codes(t, id) {
		count[code]++
	}
	require.Equal(t, map[string]int{"ok": slots, "out_of_time": 2 * slots}, count)
	first := slices.Clone(b.ingest.order)
	b.due(t)
	b.tick.stopping, b.ingest.answer, b.ingest.order, b.ingest.sweepHangs = nil, nil, nil, false
	require.NoError(t, b.tick.run(t.Context()))
	for _, s := range b.ingest.order[:slots] {
		require.NotContains(t, first, s)
	}
	require.Len(t, b.ingest.order, 3*slots)
}

// A series that several jobs want is planned for the earliest of their periods.
func TestAFetchIsPlannedForTheEarliestPeriod(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.create(t, `{"symbols":["A","B"]}`)
	b.create(t, `{"symbols":["B","C"]}`)
	b.exec(t, "update polling_jobs set created_at = created_at - interval '10 seconds' where id = $1", first)
	var periods []time.Time
	rows, err := b.store.pool.Query(t.Context(), "select created_at from polling_jobs order by id")
	require.NoError(t, err)
	periods, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
	require.NoError(t, err)
	require.NoError(t, b.tick.run(t.Context()))
	for symbol, i := range map[market.Symbol]int{"A": 0, "B": 0, "C": 1} {
		require.True(t, periods[i].Equal(b.ingest.planned[symbol]), symbol)
	}
}

func TestOverlappingTicksRunAPeriodOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() { errs <- b.tick.run(context.Background()) })
	}
	wg.Wait()
	for range 8 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, b.runs(t, id))
	require.Equal(t, 1, b.ingest.calls["yfinance AAPL"])
}

func TestMissedPeriodsRunOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	b.exec(t, "update polling_jobs set created_at = created_at - interval '17 seconds', next_run_at = created_at - interval '17 seconds'")
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	v := b.show(t, id)
	require.Equal(t, v.CreatedAt.Add(20*time.Second), v.NextRunAt)
}

// A tick that is slower than its lease fetches, but the run is the other's.
func TestTakeoverRecordsOneRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	taken := false
	b.ingest.during = func(market.Symbol) {
		if taken {
			return
		}
		taken = true
		b.exec(t, "update polling_jobs set lease_expires_at = now() - interval '1 second'")
		b.exec(t, "update polling_series set lease_expires_at = now() - interval '1 second'")
		require.NoError(t, b.tick.run(t.Context()))
		require.Equal(t, 1, b.runs(t, id))
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	require.EqualValues(t, 1, b.show(t, id).Runs)
	require.Equal(t, 2, b.ingest.calls["yfinance AAPL"])
}

//go:build integration

package schedule_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A budget for two calls a tick serves a job of five symbols in turn. A second job that wants one of them does not move it to the front.
func TestSymbolsTakeTurnsWithinABudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, "A", "B", "C", "D", "E")
	room := 0
	b.ingest.Room = func(string) error {
		if room == 0 {
			return polltest.Limited(time.Hour)
		}
		room--
		return nil
	}
	for i, want := range [][]market.Symbol{{"A", "B"}, {"C", "D"}, {"E", "A"}, {"B", "C"}} {
		room, b.ingest.Order = 2, nil
		require.NoError(t, b.tick.Run(t.Context()))
		require.ElementsMatch(t, want, b.ingest.Order, "tick %d", i)
		outcomes := b.outcomes(t, id)
		for _, s := range []market.Symbol{"A", "B", "C", "D", "E"} {
			expected := jobs.Outcome(fault.CodeProviderRateLimited)
			if slices.Contains(want, s) {
				expected = jobs.OK
			}
			require.Equal(t, expected, outcomes[s], "tick %d, %s", i, s)
		}
		b.age(t)
		if i == 1 {
			b.create(t, "yfinance", 60, "A")
			b.Exec(t, "update polling_jobs set next_run_at = now() + interval '1 hour' where cardinality(symbols) = 1")
		}
	}
}

func TestATickWaitsForABudgetThatHasRoomInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, "A", "B", "C")
	refusals := 0
	b.ingest.Room = func(string) error {
		if refusals++; refusals%2 == 1 {
			return polltest.Limited(20 * time.Millisecond)
		}
		return nil
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, map[market.Symbol]jobs.Outcome{"A": jobs.OK, "B": jobs.OK, "C": jobs.OK}, b.outcomes(t, id))
	require.Zero(t, b.job(t, id).Failures)
}

// A provider that reports its limit as spent is not called for as long as it says. No symbol loses its turn.
func TestAProviderAtItsLimitIsNotCalled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, polltest.Symbols(40)...)
	asked := 0
	b.ingest.Answer = func(context.Context, string, market.Symbol) error {
		b.ingest.Lock()
		defer b.ingest.Unlock()
		asked++
		return polltest.Limited(time.Hour)
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.LessOrEqual(t, asked, 2*fetch.Slots)
	require.Len(t, b.outcomes(t, id), 40)
	var attempted int
	require.NoError(t, b.Pool.QueryRow(t.Context(), "select count(attempted_at) from polling_series").Scan(&attempted))
	require.Zero(t, attempted)
}

// Waiting for a budget delays only its own provider. Meanwhile, a job of another provider is fetched and recorded.
func TestProvidersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "slow", 60, polltest.Symbols(2*fetch.Slots)...)
	id := b.create(t, "yfinance", 60, "AAPL")
	stopping := make(chan struct{})
	b.tick.Stopping = stopping
	b.ingest.Room = func(provider string) error {
		if provider == "slow" {
			return polltest.Limited(10 * time.Second)
		}
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- b.tick.Run(context.Background()) }()
	require.Eventually(t, func() bool { return b.Runs(t, id) == 1 }, 5*time.Second, time.Millisecond)
	require.Empty(t, ended)
	close(stopping)
	require.NoError(t, <-ended)
}

// A function that is told to stop makes no more calls. What it has is recorded; the next tick starts with the other symbols.
func TestATickThatIsStoppedRecordsWhatItHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, polltest.Symbols(3*fetch.Slots)...)
	stopping := make(chan struct{})
	b.tick.Stopping = stopping
	entered := 0
	b.ingest.SweepHangs = true
	b.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error {
		b.ingest.Lock()
		if entered++; entered == fetch.Slots {
			close(stopping)
		}
		b.ingest.Unlock()
		<-ctx.Done()
		return nil // it was in flight, and succeeded
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 1, b.Runs(t, id))
	count := map[jobs.Outcome]int{}
	for _, o := range b.outcomes(t, id) {
		count[o]++
	}
	require.Equal(t, map[jobs.Outcome]int{jobs.OK: fetch.Slots, jobs.OutOfTime: 2 * fetch.Slots}, count)
	first := slices.Clone(b.ingest.Order)
	b.age(t)
	b.tick.Stopping, b.ingest.Answer, b.ingest.Order, b.ingest.SweepHangs = nil, nil, nil, false
	require.NoError(t, b.tick.Run(t.Context()))
	for _, s := range b.ingest.Order[:fetch.Slots] {
		require.NotContains(t, first, s)
	}
	require.Len(t, b.ingest.Order, 3*fetch.Slots)
}

// A series that several jobs want is planned for the earliest of their periods.
func TestAFetchIsPlannedForTheEarliestPeriod(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.create(t, "yfinance", 60, "A", "B")
	b.create(t, "yfinance", 60, "B", "C")
	b.Exec(t, "update polling_jobs set created_at = created_at - interval '10 seconds' where id = $1", first)
	var periods []time.Time
	rows, err := b.Pool.Query(t.Context(), "select created_at from polling_jobs order by id")
	require.NoError(t, err)
	periods, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
	require.NoError(t, err)
	require.NoError(t, b.tick.Run(t.Context()))
	for symbol, i := range map[market.Symbol]int{"A": 0, "B": 0, "C": 1} {
		require.True(t, periods[i].Equal(b.ingest.Planned[symbol]), symbol)
	}
}

func TestOverlappingTicksRunAPeriodOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 5, "AAPL")
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() { errs <- b.tick.Run(context.Background()) })
	}
	wg.Wait()
	for range 8 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, b.Runs(t, id))
	require.Equal(t, 1, b.ingest.Calls["yfinance AAPL"])
}

func TestMissedPeriodsRunOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 5, "AAPL")
	b.Exec(t, "update polling_jobs set created_at = created_at - interval '17 seconds', next_run_at = created_at - interval '17 seconds'")
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 1, b.Runs(t, id))
	j := b.job(t, id)
	require.Equal(t, j.CreatedAt.Add(20*time.Second), j.NextRunAt)
}

// A tick that is slower than its lease has fetched, but the tick that took over records the run.
func TestTakeoverRecordsOneRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 5, "AAPL")
	taken := false
	b.ingest.During = func(market.Symbol) {
		if taken {
			return
		}
		taken = true
		b.Exec(t, "update polling_jobs set lease_expires_at = now() - interval '1 second'")
		b.Exec(t, "update polling_series set lease_expires_at = now() - interval '1 second'")
		require.NoError(t, b.tick.Run(t.Context()))
		require.Equal(t, 1, b.Runs(t, id))
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 1, b.Runs(t, id))
	require.EqualValues(t, 1, b.job(t, id).Runs)
	require.Equal(t, 2, b.ingest.Calls["yfinance AAPL"])
}

// Ticks drop runs older than RUNS_RETENTION, in batches.
func TestOldRunsAreDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, "AAPL")
	b.Exec(t, `
		insert into polling_runs (job_id, scheduled_at, finished_at, failed)
		select $1, now() - i * interval '1 minute', now() - i * interval '1 minute', 0 from generate_series(1, $2) i`, id, 24*60+2*schedule.RunsBatch)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 24*60, b.Runs(t, id), "a day's runs, the one of this tick among them")
	require.Zero(t, b.Count(t, "select count(*) from polling_runs where finished_at < now() - interval '24 hours'"))
}

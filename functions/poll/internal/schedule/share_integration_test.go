//go:build integration

package schedule_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/market"
)

// A series is fetched once a period, however many jobs want it, in several claims, overlapping ticks and replicas.
func TestOneFetchServesAllJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const jobs, symbols = 2*schedule.ClaimBatch + 7, 40
	b.ManyJobs(t, jobs, symbols, "yfinance", 60)
	for period := 1; period <= 2; period++ {
		tickers := []*schedule.Ticker{b.tick, b.tick, b.replica(), b.replica()}
		errs := make([]error, len(tickers))
		var wg sync.WaitGroup
		for i, ticker := range tickers {
			wg.Go(func() { errs[i] = ticker.Run(context.Background()) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.Len(t, b.ingest.Calls, symbols)
		for series, calls := range b.ingest.Calls {
			require.Equal(t, period, calls, series)
		}
		require.Equal(t, jobs, b.Count(t, "select count(*) from polling_runs where scheduled_at = (select max(scheduled_at) from polling_runs)"))
		require.Equal(t, period*jobs, b.Count(t, "select count(*) from polling_runs"))
		require.Equal(t, jobs, b.Count(t, "select count(*) from polling_results where price = 1.5 and provider = 'yfinance'"))
		require.Zero(t, b.Count(t, "select count(*) from polling_jobs where lease_token is not null"))
		b.age(t)
	}
}

// Jobs of one interval that were created at different times share a quote while it is fresh. They do not share a failure: after one,
// each job has a fetch of its own.
func TestJobsOfAnotherPhaseTakeAFreshQuote(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		symbol   market.Symbol
		interval int
		later    string // of the second job
		calls    int
	}{
		"a fresh quote":                   {"AAPL", 300, "50 seconds", 1},
		"a quote that is no longer fresh": {"AAPL", 300, "61 seconds", 2},
		"a quote of the period before":    {"AAPL", 5, "6 seconds", 2},
		"a failure":                       {"BAD", 300, "50 seconds", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create(t, "yfinance", c.interval, c.symbol)
			require.NoError(t, b.tick.Run(t.Context()))
			b.Exec(t, "update polling_jobs set status = 'paused', created_at = created_at - $1::text::interval", c.later)
			b.Exec(t, "update polling_series set attempted_at = attempted_at - $1::text::interval, planned = planned - $1::text::interval", c.later)
			id := b.create(t, "yfinance", c.interval, c.symbol)
			require.NoError(t, b.tick.Run(t.Context()))
			require.Equal(t, 1, b.Runs(t, id))
			require.Equal(t, c.calls, b.ingest.Calls["yfinance "+string(c.symbol)])
		})
	}
}

// After the clock was set back, an old quote must not serve for ever.
func TestAFetchFromTheFutureServesNoJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "yfinance", 60, "AAPL")
	require.NoError(t, b.tick.Run(t.Context()))
	b.Exec(t, "update polling_series set attempted_at = attempted_at + interval '1 hour', planned = planned + interval '1 hour'")
	b.create(t, "yfinance", 60, "AAPL")
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 2, b.ingest.Calls["yfinance AAPL"])
}

// A provider that hangs does not delay jobs of other providers, however many jobs it has, and however many ticks wait for it.
func TestAHangingProviderDelaysNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ManyJobs(t, 1500, 1500, "slow", 5)
	b.ManyJobs(t, 20, 20, "yfinance", 5)
	stopping := make(chan struct{})
	b.tick.Stopping = stopping
	b.ingest.Answer = func(ctx context.Context, provider string, _ market.Symbol) error {
		if provider == "slow" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for round := range errs { // ticks come while the ones before still wait
		wg.Go(func() { errs[round] = b.tick.Run(context.Background()) })
		want := 20 * (round + 1)
		require.Eventually(t, func() bool {
			return want == b.Count(t, "select count(*) from polling_runs r join polling_jobs j on j.id = r.job_id where provider = 'yfinance'")
		}, 10*time.Second, 5*time.Millisecond, "round %d", round)
		b.Exec(t, "update polling_jobs set created_at = created_at - interval '6 seconds', next_run_at = next_run_at - interval '6 seconds' where provider = 'yfinance'")
		b.Exec(t, "update polling_series set attempted_at = attempted_at - interval '6 seconds', planned = planned - interval '6 seconds' where provider = 'yfinance'")
	}
	close(stopping)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 1500, b.Count(t, "select count(*) from polling_runs r join polling_jobs j on j.id = r.job_id where provider = 'slow'"))
}

// An adapter that panics fails its own symbol and nothing else.
func TestAPanicFailsItsSymbol(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, "AAPL", "MSFT", "IBM")
	b.ingest.During = func(s market.Symbol) {
		if s == "MSFT" {
			panic("token=hunter2")
		}
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, map[market.Symbol]jobs.Outcome{"AAPL": jobs.OK, "MSFT": "internal", "IBM": jobs.OK}, b.outcomes(t, id))
}

//go:build integration

package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

// replica is another process' ticker on the same database and provider.
func (b bundle) replica() *ticker {
	return &ticker{
		store: &pgStore{pool: b.store.pool}, ingest: b.ingest, cache: noCache{}, log: slog.New(slog.DiscardHandler),
		metrics: newMetrics(vm.NewSet()), chain: b.tick.chain, fresh: b.tick.fresh, rawRetention: time.Hour, runsRetention: time.Hour,
	}
}

// manyJobs makes jobs by SQL, each of one of the symbols.
func (b bundle) manyJobs(t *testing.T, n, symbols int, provider string, interval int) {
	t.Helper()
	b.exec(t, `
		insert into polling_jobs (id, symbols, provider, interval_s, next_run_at)
		select 'poll_' || md5($3 || i), array['S' || i % $2], $3, $4, now() from generate_series(1, $1) i`, n, symbols, provider, interval)
}

func (b bundle) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, b.store.pool.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// A series is fetched once a period however many jobs want it: over several claims, ticks that overlap, and replicas.
func TestOneFetchServesAllJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const jobs, symbols = 2*claimBatch + 7, 40
	b.manyJobs(t, jobs, symbols, "yfinance", 60)
	for period := 1; period <= 2; period++ {
		tickers := []*ticker{b.tick, b.tick, b.replica(), b.replica()}
		errs := make([]error, len(tickers))
		var wg sync.WaitGroup
		for i, ticker := range tickers {
			wg.Go(func() { errs[i] = ticker.run(context.Background()) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.Len(t, b.ingest.calls, symbols)
		for series, calls := range b.ingest.calls {
			require.Equal(t, period, calls, series)
		}
		require.Equal(t, jobs, b.count(t, "select count(*) from polling_runs where scheduled_at = (select max(scheduled_at) from polling_runs)"))
		require.Equal(t, period*jobs, b.count(t, "select count(*) from polling_runs"))
		require.Equal(t, jobs, b.count(t, "select count(*) from polling_results where price = 1.5 and provider = 'yfinance'"))
		require.Zero(t, b.count(t, "select count(*) from polling_jobs where lease_token is not null"))
		b.due(t)
	}
}

// Jobs of one period that were created at different times share a quote while it is fresh, and only a quote: after a failure
// each asks for itself.
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
			b.create(t, fmt.Sprintf(`{"symbols":[%q],"interval":%d}`, c.symbol, c.interval))
			require.NoError(t, b.tick.run(t.Context()))
			b.exec(t, "update polling_jobs set status = 'paused', created_at = created_at - $1::text::interval", c.later)
			b.exec(t, "update polling_series set attempted_at = attempted_at - $1::text::interval, planned = planned - $1::text::interval", c.later)
			id := b.create(t, fmt.Sprintf(`{"symbols":[%q],"interval":%d}`, c.symbol, c.interval))
			require.NoError(t, b.tick.run(t.Context()))
			require.Equal(t, 1, b.runs(t, id))
			require.Equal(t, c.calls, b.ingest.calls["yfinance "+string(c.symbol)])
		})
	}
}

// A clock that was set back must not make an old quote serve for ever.
func TestAFetchFromTheFutureServesNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, `{"symbols":["AAPL"]}`)
	require.NoError(t, b.tick.run(t.Context()))
	b.exec(t, "update polling_series set attempted_at = attempted_at + interval '1 hour', planned = planned + interval '1 hour'")
	b.create(t, `{"symbols":["AAPL"]}`)
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 2, b.ingest.calls["yfinance AAPL"])
}

// One provider that hangs takes nothing from the jobs of others, however many jobs it has, and however many ticks wait for it.
func TestAHangingProviderIsAloneWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.manyJobs(t, 1500, 1500, "slow", 5)
	b.manyJobs(t, 20, 20, "yfinance", 5)
	stopping := make(chan struct{})
	b.tick.stopping = stopping
	b.ingest.answer = func(ctx context.Context, provider string, _ market.Symbol) error {
		if provider == "slow" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for round := range errs { // ticks come while the ones before still wait
		wg.Go(func() { errs[round] = b.tick.run(context.Background()) })
		want := 20 * (round + 1)
		require.Eventually(t, func() bool {
			return want == b.count(t, "select count(*) from polling_runs r join polling_jobs j on j.id = r.job_id where provider = 'yfinance'")
		}, 10*time.Second, 5*time.Millisecond, "round %d", round)
		b.exec(t, "update polling_jobs set created_at = created_at - interval '6 seconds', next_run_at = next_run_at - interval '6 seconds' where provider = 'yfinance'")
		b.exec(t, "update polling_series set attempted_at = attempted_at - interval '6 seconds', planned = planned - interval '6 seconds' where provider = 'yfinance'")
	}
	close(stopping)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, 1500, b.count(t, "select count(*) from polling_runs r join polling_jobs j on j.id = r.job_id where provider = 'slow'"))
}

// An adapter that panics fails its symbol and nothing else, and the log does not show what it had in its hands.
func TestAPanicFailsItsSymbol(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL","MSFT","IBM"]}`)
	b.ingest.during = func(s market.Symbol) {
		if s == "MSFT" {
			panic("token=hunter2")
		}
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, map[market.Symbol]string{"AAPL": "ok", "MSFT": "internal", "IBM": "ok"}, b.codes(t, id))
}

package schedule

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// withJobs has n jobs of the symbols instead of one.
func withJobs(n int, symbols ...market.Symbol) *unit {
	u := newUnit()
	u.store.claims = nil
	for i := range n {
		u.store.claims = append(u.store.claims, Claim{
			JobID: fmt.Sprint("job", i), Scheduled: time.Now().Add(-time.Hour), Interval: time.Minute, Symbols: symbols,
		})
	}
	return u
}

// A tick whose store does not answer fails, so that it is sent again, whatever it asked the store.
func TestATickFailsIfItsStoreDoes(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Due", "Claim", "Acquire", "Backoffs", "Probe", "PauseWaiting", "Paused", "ForgetKeys", "DropRuns"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit("AAPL")
				down := fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
				u.store.errs = map[string]error{method: down}
				u.store.off = map[string]jobs.Backoff{"other": {}}
				if method == "Probe" {
					u.store.off = map[string]jobs.Backoff{"yfinance": {Due: true}}
				}
				u.tick.Troubles = func(map[string]jobs.Backoff, int) {}
				u.tick.History = historyFunc(func(context.Context) error { return nil })
				require.ErrorIs(t, u.tick.Run(t.Context()), down)
				if method == "Backoffs" {
					require.Empty(t, u.store.outcomes(), "while nobody knows whether the provider is away, it is not called")
				}
			})
		})
	}
}

// The errors of all providers are reported, of jobs that are due now and of those that will be soon.
func TestATickFailsWithTheErrorsOfAllProviders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		u.store.errs = map[string]error{}
		for i := range 4 {
			provider := fmt.Sprint("p", i)
			u.store.due = append(u.store.due, DueProvider{Provider: provider, Now: i%2 == 0, Soon: true})
			u.store.errs["Claim "+provider] = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "%s", provider)
		}
		err := u.tick.Run(t.Context())
		for _, down := range u.store.errs {
			require.ErrorIs(t, err, down)
		}
	})
}

// The sweep's error fails the tick, after the jobs have run. Events that it published are counted all the same.
func TestATickFailsIfItsSweepDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		down, swept := fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x"), 0
		u.tick.Outbox, u.tick.Swept = sweep{u.ingest, down}, func(n int) { swept += n }
		require.ErrorIs(t, u.tick.Run(t.Context()), down)
		require.Equal(t, 3, swept)
		require.Equal(t, map[market.Symbol]jobs.Outcome{"AAPL": jobs.OK}, u.store.outcomes())
	})
}

// sweep publishes three events, and fails.
type sweep struct {
	*polltest.Ingest
	err error
}

func (s sweep) Sweep(context.Context, int) (int, error) { return 3, s.err }

// Results are written in statements of bounded size, each job once.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ jobs, symbols int }{
		"many jobs": {2*writeJobs + 500, 1}, "many results": {2*writeRows/100 + 20, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := withJobs(c.jobs, polltest.Symbols(c.symbols)...)
				recorded := 0
				u.tick.Recorded = func(n int) { recorded += n }
				outcomes, _ := u.run(t)
				require.Equal(t, map[jobs.Outcome]int{jobs.OK: c.symbols}, outcomes)
				seen, fullest := map[string]bool{}, 0
				for _, b := range u.store.wrote {
					rows := 0
					for _, j := range b.Jobs {
						require.False(t, seen[j.JobID])
						seen[j.JobID] = true
						rows += len(j.Results)
					}
					require.LessOrEqual(t, len(b.Jobs), writeJobs)
					require.LessOrEqual(t, rows, writeRows)
					fullest = max(fullest, len(b.Jobs))
				}
				require.Len(t, seen, c.jobs)
				require.Equal(t, c.jobs, recorded)
				require.Equal(t, min(writeJobs, writeRows/c.symbols), fullest, "no statement is smaller than it needs to be")
			})
		})
	}
}

// A pass claims what is due, as long as its memory is bounded. The next pass claims the rest.
func TestAPassClaimsUntilItsJobsWantEnough(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		jobs, symbols int
		claimed       []int // the last finds nothing
	}{
		"few jobs":         {10, 1, []int{10, 0}},
		"several batches":  {2*claimBatch + 1, 1, []int{claimBatch, claimBatch, 1, 0}},
		"exactly a batch":  {claimBatch, 1, []int{claimBatch, 0, 0}},
		"jobs want enough": {2 * claimBatch, passWants / claimBatch, []int{claimBatch, claimBatch, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := withJobs(c.jobs, polltest.Symbols(c.symbols)...)
				outcomes, _ := u.run(t)
				require.Equal(t, map[jobs.Outcome]int{jobs.OK: c.symbols}, outcomes)
				require.Equal(t, c.claimed, u.store.claimed)
			})
		})
	}
}

// A tick drops old runs until few are left, but only so many, and then bodies of responses.
func TestATickTidiesALittle(t *testing.T) {
	t.Parallel()
	for old, drops := range map[int64]int{0: 1, runsBatch - 1: 1, runsBatch: 2, 100 * runsBatch: runsBatches} {
		synctest.Test(t, func(t *testing.T) {
			u := newUnit("AAPL")
			u.store.old, u.tick.RawRetention = old, time.Hour
			u.run(t)
			require.Equal(t, drops, u.store.drops, "%d old runs", old)
			require.Equal(t, time.Hour, u.ingest.Dropped)
		})
	}
}

// A tick that is told to stop tidies no further, and one that has no time left does not begin to.
func TestATickThatEndsDoesNotTidy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		stopping := make(chan struct{})
		close(stopping)
		u.tick.Stopping, u.store.old = stopping, 100*runsBatch
		u.run(t)
		require.Equal(t, 1, u.store.drops)
		require.Zero(t, u.ingest.Dropped)
	})
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		u.tick.History = historyFunc(func(ctx context.Context) error { <-ctx.Done(); return nil })
		_, took := u.run(t)
		require.Equal(t, tickBudget, took)
		require.Zero(t, u.store.drops)
	})
}

type historyFunc func(ctx context.Context) error

func (f historyFunc) Run(ctx, _ context.Context) error { return f(ctx) }

// The jobs that are paused for their failures are reported in each tick.
func TestTroublesAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		reported := -1
		u.tick.Troubles = func(off map[string]jobs.Backoff, paused int) {
			require.Empty(t, off)
			reported = paused
		}
		u.run(t)
		require.Equal(t, 7, reported)
	})
}

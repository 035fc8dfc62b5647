package schedule

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

var errAway = fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")

// outages returns the outages that were written.
func (f *fakeStore) outages() (all []Outage) {
	for _, b := range f.wrote {
		if b.Outage != nil {
			all = append(all, *b.Outage)
		}
	}
	return all
}

// An outage is reported once: as soon as so many calls in a row have failed, or at the end of a pass in which none was answered. Its wait is
// the longest that the provider asked for.
func TestAnOutageIsReportedOnce(t *testing.T) {
	t.Parallel()
	longest := Outage{fault.CodeProviderUnavailable, 7 * time.Second}
	for name, c := range map[string]struct {
		answered bool // the first of the calls
		failures int
		outages  []Outage
	}{
		"few failures":                  {false, 3, []Outage{longest}},
		"enough in a row":               {false, 8, []Outage{longest}},
		"few after an answer":           {true, 7, nil},
		"enough in a row, but answered": {true, 8, []Outage{longest}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				symbols := polltest.Symbols(1 + c.failures)
				if !c.answered {
					symbols = symbols[1:]
				}
				u := newUnit(symbols...)
				u.ingest.Answer = func(_ context.Context, _ string, s market.Symbol) error {
					if s == "S0" {
						return nil
					}
					time.Sleep(time.Second)
					if s == "S2" {
						return errAway.After(7 * time.Second)
					}
					return errAway
				}
				u.run(t)
				require.Equal(t, c.outages, u.store.outages())
			})
		})
	}
}

// A probe asks for one of the job's symbols. If it fails, the outage is written with its result, and the job goes back without a run.
func TestAProbeThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(polltest.Symbols(5)...)
		u.store.claims = append(u.store.claims, Claim{JobID: "other", Scheduled: time.Now(), Interval: time.Minute, Symbols: polltest.Symbols(1)})
		u.store.off, u.store.grants = map[string]jobs.Backoff{"yfinance": {Due: true}}, map[string]bool{"yfinance": true}
		u.ingest.Answer = func(context.Context, string, market.Symbol) error { return errAway }
		u.run(t)
		require.Equal(t, []int{1}, u.store.claimed)
		require.Equal(t, []Outage{{Code: fault.CodeProviderUnavailable}}, u.store.outages())
		var fetched []Finished
		var returned []string
		for _, b := range u.store.wrote {
			fetched, returned = append(fetched, b.Fetched...), append(returned, b.Returned...)
			require.Equal(t, len(b.Fetched) == 1, b.Outage != nil)
			require.Empty(t, b.Jobs)
		}
		require.Len(t, fetched, 1)
		require.Equal(t, []string{"job"}, returned)
	})
}

// A probe for which there is no job does nothing, and one of a provider that is not due is not made.
func TestAProbeWithoutAJob(t *testing.T) {
	t.Parallel()
	for _, due := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			u := newUnit()
			u.store.claims = nil
			u.store.off, u.store.grants = map[string]jobs.Backoff{"yfinance": {Due: due}}, map[string]bool{"yfinance": true}
			u.run(t)
			require.Equal(t, !due, u.store.grants["yfinance"])
			require.Empty(t, u.store.wrote)
		})
	}
}

// A job of auto probes a provider of its chain with one call, while the others go around it. Once the probe is answered, they go there, too.
func TestAutoProbesAProviderOfItsChain(t *testing.T) {
	t.Parallel()
	soon, late := time.Now(), time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		off   map[string]jobs.Backoff
		calls map[string]int
	}{
		"a probe is due":       {map[string]jobs.Backoff{"slow": {Due: true}}, map[string]int{"slow": 25, "quick": 15}},
		"none is due":          {map[string]jobs.Backoff{"slow": {}}, map[string]int{"quick": 40}},
		"no provider answers":  {map[string]jobs.Backoff{"slow": {Due: true, Until: soon}, "quick": {Until: late}}, map[string]int{"slow": 1}},
		"the last has a probe": {map[string]jobs.Backoff{"slow": {Until: late}, "quick": {Due: true, Until: soon}}, map[string]int{"quick": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit(polltest.Symbols(40)...)
				u.store.provider, u.store.off, u.store.grants = jobs.Auto, c.off, map[string]bool{"slow": true, "quick": true}
				calls := map[string]int{}
				u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
					u.ingest.Lock()
					calls[provider]++
					u.ingest.Unlock()
					if provider == "slow" {
						time.Sleep(time.Millisecond)
					} else {
						time.Sleep(time.Second)
					}
					return nil
				}
				u.run(t)
				require.Equal(t, c.calls, calls)
				for _, b := range u.store.wrote {
					require.False(t, b.Answered && b.Provider == jobs.Auto, "auto is no provider that could answer")
				}
			})
		})
	}
}

// While another replica fetches a series of a provider, a job of auto waits for it: until it is free, or the time is up.
func TestAutoWaitsForABusySeries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		busy    time.Duration
		outcome jobs.Outcome
		took    time.Duration
	}{
		"free after a while": {3 * time.Second, jobs.OK, 3 * time.Second},
		"never free":         {time.Hour, jobs.OutOfTime, tickBudget - bookkeeping},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit("AAPL")
				u.store.provider = jobs.Auto
				began := time.Now()
				u.store.busy = func(provider string, _ *Want) bool { return provider == "slow" && time.Since(began) < c.busy }
				outcomes, took := u.run(t)
				require.Equal(t, map[jobs.Outcome]int{c.outcome: 1}, outcomes)
				require.Equal(t, c.took, took)
				require.Zero(t, u.ingest.Calls["quick AAPL"])
			})
		})
	}
}

// A job of auto takes what an earlier fetch of a provider's series found.
func TestAutoIsServedByAnEarlierFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		u.store.provider = jobs.Auto
		u.store.served = map[string]fetch.Result{"slow": {Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: jobs.OK, Provider: "slow"}}}
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 1}, outcomes)
		require.Zero(t, took)
		require.Empty(t, u.ingest.Calls)
	})
}

// If the store does not say whether a series of a provider is free, its symbol fails, but not the tick.
func TestAutoFailsASymbolWhoseSeriesIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		u.store.provider = jobs.Auto
		u.store.errs = map[string]error{"Acquire slow": fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")}
		outcomes, _ := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{fault.CodeStorageUnavailable: 1}, outcomes)
		require.Empty(t, u.ingest.Calls)
	})
}

// A job that is claimed is finished even if the timer gives up waiting.
func TestATimerThatGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		ctx, giveUp := context.WithCancel(t.Context())
		u.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error {
			giveUp()
			time.Sleep(time.Second)
			return ctx.Err()
		}
		require.NoError(t, u.tick.Run(ctx))
		require.Equal(t, map[market.Symbol]jobs.Outcome{"AAPL": jobs.OK}, u.store.outcomes())
		require.Equal(t, 1, u.store.drops)
	})
}

// Leases of jobs and series are renewed until they are written. A renewal that fails is logged, and is no reason to end.
func TestWhatIsNotWrittenIsRenewed(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"renewed": nil, "not renewed": errAway} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := withJobs(1, "A")
				u.store.claims = append(u.store.claims, withJobs(2, "B").store.claims[1])
				u.store.errs = map[string]error{"Renew": err}
				u.ingest.Answer = func(_ context.Context, _ string, s market.Symbol) error {
					if s == "B" {
						time.Sleep(12 * time.Second)
					}
					return nil
				}
				outcomes, _ := u.run(t)
				require.Equal(t, map[jobs.Outcome]int{jobs.OK: 2}, outcomes)
				require.Equal(t, map[string]int{"yfinance B": 2}, u.store.series)
				require.Equal(t, map[string]int{"job1": 2}, u.store.jobs)
				logged := 0
				if err != nil {
					logged = 2
				}
				require.Equal(t, logged, strings.Count(u.log.String(), "leases not renewed"))
			})
		})
	}
}

// Runs that were not recorded are logged.
func TestRunsThatAreNotRecordedAreLogged(t *testing.T) {
	t.Parallel()
	for lose, want := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			u := newUnit("AAPL")
			u.store.lose = lose
			u.run(t)
			require.Equal(t, want, strings.Count(u.log.String(), "runs not recorded"), u.log.String())
		})
	}
}

// Jobs that wait for a provider are paused, also those of auto if its whole chain is away. Each pause is logged.
func TestJobsThatWaitArePaused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		off    map[string]jobs.Backoff
		waited []string
	}{
		"nothing is away": {nil, nil},
		"one provider":    {map[string]jobs.Backoff{"slow": {}}, []string{"slow"}},
		"the whole chain": {map[string]jobs.Backoff{"slow": {}, "quick": {}}, []string{"slow", "quick", jobs.Auto}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit("AAPL")
				u.store.off, u.store.paused = c.off, []PausedJob{{"job", fault.CodeProviderTimeout}}
				u.run(t)
				var waited []string
				for _, off := range u.store.waited {
					for provider := range off {
						waited = append(waited, provider)
					}
				}
				require.ElementsMatch(t, c.waited, waited)
				require.Len(t, u.store.waited, min(1, len(c.off)))
				require.Equal(t, len(u.store.wrote)+len(u.store.waited), strings.Count(u.log.String(), "job paused"))
			})
		})
	}
}

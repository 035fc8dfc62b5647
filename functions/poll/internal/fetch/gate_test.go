package fetch

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A fetch waits for a budget that will have room in time. Symbols get the budget in their order.
func TestFetchesWaitForTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		var next time.Time
		u.ingest.Room = func(string) error {
			if wait := time.Until(next); wait > 0 {
				return polltest.Limited(wait)
			}
			next = time.Now().Add(time.Second)
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond)
		defer cancel()
		began := time.Now()
		results := u.fetch(ctx, "p", polltest.Symbols(8)...)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 5, fault.CodeProviderRateLimited: 3}, count(results))
		require.ElementsMatch(t, polltest.Symbols(5), u.ingest.Order)
		require.Equal(t, 4*time.Second, time.Since(began), "a call that would come too late is not waited for")
	})
}

// A budget that does not say how long to wait is asked every 10 ms.
func TestABudgetThatDoesNotSayHowLongToWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		asked := 0
		u.ingest.Room = func(string) error {
			if asked++; asked > 100 {
				return nil
			}
			return polltest.Limited(0)
		}
		began := time.Now()
		require.Equal(t, jobs.OK, u.fetch(t.Context(), "p", "AAPL")["AAPL"].Outcome)
		require.Equal(t, time.Second, time.Since(began))
	})
}

// Auto waits only for the budget of the last provider in its chain.
func TestAutoSkipsASpentBudgetWhileThereIsAnotherProvider(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limited string
		asked   []string
		took    time.Duration
	}{
		"first": {"first", []string{"second"}, 0},
		"last":  {"second", []string{"first", "second"}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit()
				began := time.Now()
				u.ingest.Room = func(provider string) error {
					if wait := 2*time.Second - time.Since(began); provider == c.limited && wait > 0 {
						return polltest.Limited(wait)
					}
					return nil
				}
				var asked []string
				u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
					asked = append(asked, provider)
					if provider == "first" {
						return fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
					}
					return nil
				}
				r := u.auto(t.Context(), "AAPL")["AAPL"]
				require.Equal(t, jobs.OK, r.Outcome)
				require.Equal(t, "second", r.Provider)
				require.Equal(t, c.asked, asked)
				require.Equal(t, c.took, time.Since(began))
			})
		})
	}
}

// A spent budget closes the gate for as long as it says, but for no more than a minute.
func TestAClosedGateOpensAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		asked := 0
		u.ingest.Room = func(string) error { asked++; return polltest.Limited(24 * time.Hour) }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		results := u.fetch(ctx, "p", polltest.Symbols(5*Slots)...)
		require.Equal(t, map[jobs.Outcome]int{fault.CodeProviderRateLimited: 5 * Slots}, count(results))
		require.Zero(t, time.Since(began))
		require.Equal(t, 1, asked)
		for _, step := range []struct {
			wait  time.Duration
			asked int
		}{{longestClosed - time.Second, 1}, {time.Second, 2}} {
			time.Sleep(step.wait)
			require.Equal(t, map[jobs.Outcome]int{fault.CodeProviderRateLimited: 3}, count(u.fetch(ctx, "p", polltest.Symbols(3)...)))
			require.Equal(t, step.asked, asked)
		}
	})
}

// A provider that reports its limit as spent closes its own gate, and no other, for as long as it says.
func TestTheProvidersOwnLimitClosesItsGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		asked := 0
		limit := polltest.Limited(30 * time.Second)
		u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
			if provider == "other" {
				return nil
			}
			asked++
			return limit
		}
		ask := func(provider string) Result { return u.fetch(t.Context(), provider, "AAPL")["AAPL"] }
		for range 3 {
			r := ask("p")
			require.Equal(t, jobs.Outcome(fault.CodeProviderRateLimited), r.Outcome)
			require.False(t, r.Asked)
		}
		require.Equal(t, 1, asked)
		require.Equal(t, jobs.OK, ask("other").Outcome)
		time.Sleep(30*time.Second - time.Millisecond)
		require.Equal(t, jobs.Outcome(fault.CodeProviderRateLimited), ask("p").Outcome)
		require.Equal(t, 1, asked)
		time.Sleep(time.Millisecond)
		limit = nil
		require.Equal(t, jobs.OK, ask("p").Outcome)
		require.Equal(t, 2, asked)
		require.Equal(t, 1, bytes.Count(u.log.Bytes(), []byte("fetch failed")), "a gate that is closed is not logged again")
	})
}

// Auto skips a provider that hangs, asks it again every probeStep, and goes back to it once it answers.
func TestAProviderThatHangsIsSkippedAndProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		asked, hangs := 0, true
		u.ingest.Answer = func(ctx context.Context, provider string, _ market.Symbol) error {
			if provider != "first" {
				return nil
			}
			u.ingest.Lock()
			asked++
			hanging := hangs
			u.ingest.Unlock()
			if hanging {
				return polltest.Hang(ctx)
			}
			return nil
		}
		auto := func(n int) (by map[string]int, took time.Duration) {
			began := time.Now()
			by = map[string]int{}
			for _, r := range u.auto(t.Context(), polltest.Symbols(n)...) {
				by[r.Provider]++
			}
			return by, time.Since(began)
		}
		by, _ := auto(Slots)
		require.Equal(t, map[string]int{"second": Slots}, by)
		require.Equal(t, Slots, asked, "nothing was known about it before")

		by, took := auto(Slots)
		require.Equal(t, map[string]int{"second": Slots}, by)
		require.Equal(t, 5*time.Second, took)
		require.Equal(t, Slots+1, asked, "one probe")
		require.Equal(t, 2*Slots, u.counted["first provider_timeout"], "symbols that skip it count, too")

		hangs = false
		time.Sleep(probeStep)
		by, took = auto(1)
		require.Equal(t, map[string]int{"first": 1}, by, "the probe finds that it is back")
		require.Zero(t, took)
		by, _ = auto(Slots)
		require.Equal(t, map[string]int{"first": Slots}, by)
	})
}

// The last provider of the chain is asked even if it hangs.
func TestTheLastProviderIsAskedEvenIfItHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		u.Chain = []string{"only"}
		u.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error { return polltest.Hang(ctx) }
		require.Equal(t, map[jobs.Outcome]int{fault.CodeProviderTimeout: 2 * Slots}, count(u.auto(t.Context(), polltest.Symbols(2*Slots)...)))
		require.Equal(t, map[string]int{"only provider_timeout": 2 * Slots}, u.counted)
		require.Equal(t, 2*Slots, bytes.Count(u.log.Bytes(), []byte("fetch failed")), "each was a call")
	})
}

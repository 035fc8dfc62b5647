package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

type unit struct {
	store  *fakeStore
	ingest *fakeIngest
	tick   *ticker
	log    bytes.Buffer
}

// newUnit has one job of the symbols, due at an hour ago.
func newUnit(symbols ...market.Symbol) *unit {
	u := &unit{
		store:  &fakeStore{claims: []claim{{jobID: "job", scheduled: time.Now().Add(-time.Hour), interval: time.Minute, symbols: symbols}}},
		ingest: &fakeIngest{calls: map[string]int{}, planned: map[market.Symbol]time.Time{}},
	}
	u.tick = &ticker{store: u.store, ingest: u.ingest, cache: noCache{}, log: slog.New(slog.NewTextHandler(&u.log, nil)), metrics: newMetrics(vm.NewSet())}
	return u
}

func symbols(n int) []market.Symbol {
	all := make([]market.Symbol, n)
	for i := range all {
		all[i] = market.Symbol(fmt.Sprint("S", i))
	}
	return all
}

// run runs a tick and gives how many symbols came to which result, and how long it took.
func (u *unit) run(t *testing.T) (codes map[string]int, took time.Duration) {
	t.Helper()
	began := time.Now()
	require.NoError(t, u.tick.run(t.Context()))
	codes = map[string]int{}
	for _, code := range u.store.codes() {
		codes[code]++
	}
	return codes, time.Since(began)
}

func TestAPanicIsContained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL", "MSFT", "IBM")
		u.ingest.during = func(s market.Symbol) {
			switch s {
			case "AAPL":
				panic("GET /?apikey=hunter2")
			case "IBM":
				var none []int
				none[0]++
			}
		}
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"internal": 2, "ok": 1}, codes)
		require.Zero(t, took)
		require.NotContains(t, u.log.String(), "hunter2", "the log does not show what the adapter had in its hands")
		require.Contains(t, u.log.String(), "index out of range")
	})
}

// A plan of one call a second: the tick waits for each, until its time for calls is over.
func TestATickWaitsForItsBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(symbols(30)...)
		var next time.Time
		u.ingest.reserve = func(string) error {
			if wait := time.Until(next); wait > 0 {
				return limited(wait)
			}
			next = time.Now().Add(time.Second)
			return nil
		}
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"ok": 17, "provider_rate_limited": 13}, codes)
		require.Equal(t, 16*time.Second, took, "the next call would come too late")
	})
}

// A provider that hangs costs its symbols, not the tick: what it had no time for is out_of_time, and is given back unasked.
func TestAHangingProviderEndsWithTheTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(symbols(100)...)
		u.ingest.answer = func(ctx context.Context, _ string, _ market.Symbol) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			<-ctx.Done()
			return fault.New(fault.Unavailable, "provider_timeout", "x")
		}
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"provider_timeout": 4 * slots, "out_of_time": 100 - 4*slots}, codes)
		require.Equal(t, tickBudget-bookkeeping, took)
		require.Equal(t, 3, u.store.renewed, "leases are renewed every 5 s")
		fetched, unasked := 0, 0
		for _, o := range u.store.wrote {
			fetched, unasked = fetched+len(o.fetched), unasked+len(o.unasked)
		}
		require.Equal(t, []int{4 * slots, 100 - 4*slots}, []int{fetched, unasked})
	})
}

// A provider that hangs costs auto a few calls, not a wait for each symbol.
func TestAutoPassesOverAProviderThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(symbols(400)...)
		u.store.provider, u.tick.chain = auto, []string{"slow", "quick"}
		asked := 0
		u.ingest.answer = func(ctx context.Context, provider string, _ market.Symbol) error {
			if provider == "quick" {
				return nil
			}
			u.ingest.mu.Lock()
			asked++
			u.ingest.mu.Unlock()
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			<-ctx.Done()
			return fault.New(fault.Unavailable, "provider_timeout", "x")
		}
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"ok": 400}, codes)
		require.LessOrEqual(t, took, 10*time.Second)
		require.LessOrEqual(t, asked, slots+hangsAfter)
	})
}

// A series that somebody else is fetching is looked at again, and does not hold up the others.
func TestABusySeriesIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL", "MSFT")
		began := time.Now()
		u.store.busy = func(w *want) bool { return w.symbol == "AAPL" && time.Since(began) < 3*time.Second }
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"ok": 2}, codes)
		require.Equal(t, 3*time.Second, took)
		require.Equal(t, []market.Symbol{"MSFT", "AAPL"}, u.ingest.order)
	})
}

// A provider that refuses is left alone for as long as it says, by every tick of the process, but for no more than a minute.
func TestAClosedLaneIsAskedAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(symbols(5 * slots)...)
		asked := 0
		u.ingest.reserve = func(string) error { asked++; return limited(24 * time.Hour) }
		codes, took := u.run(t)
		require.Equal(t, map[string]int{"provider_rate_limited": 5 * slots}, codes)
		require.Zero(t, took)
		require.Equal(t, 1, asked)
		for _, step := range []struct {
			wait  time.Duration
			asked int
		}{{longestClosed - time.Second, 1}, {time.Second, 2}} {
			time.Sleep(step.wait)
			u.store.claims = []claim{{jobID: "job", scheduled: time.Now(), interval: time.Minute, symbols: symbols(3)}}
			u.run(t)
			require.Equal(t, step.asked, asked)
		}
	})
}

// What jobs want of a series: an earlier fetch must serve all of them.
func TestWants(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	claims := []claim{
		{scheduled: at(0), interval: 5 * time.Second, symbols: []market.Symbol{"A", "B", "A"}},
		{scheduled: at(3), interval: time.Hour, symbols: []market.Symbol{"B"}},
	}
	all := wants(claims, time.Minute)
	require.Len(t, all, 2)
	require.Equal(t, want{symbol: "A", jobs: []int32{0}, planned: at(0), since: at(0), fresh: at(-5)}, *all[0])
	require.Equal(t, want{symbol: "B", jobs: []int32{0, 1}, planned: at(0), since: at(3), fresh: at(-5)}, *all[1])
	require.Equal(t, []*want{all[0], all[1]}, claims[0].wants, "each symbol once, though the job has it twice")
}

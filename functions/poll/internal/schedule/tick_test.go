package schedule

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// fakeStore has claims for one pass and keeps what is written. Every series is free.
type fakeStore struct {
	mu       sync.Mutex
	provider string // of the claims; empty: yfinance
	claims   []Claim
	wrote    []Batch
	renewed  int
	jobs     map[string]int                      // renewals of a job
	series   map[string]int                      // renewals of a series, by provider and symbol
	claimed  []int                               // claims of each call
	writes   int                                 // calls of Write
	writeErr error                               // of every write; nil: none
	busy     func(provider string, w *Want) bool // nil: none is
	served   map[string]fetch.Result             // of a provider's series, by an earlier fetch
	errs     map[string]error                    // of other methods, by name, or by name and provider with a space between them
	old      int64                               // runs to drop
	drops    int                                 // calls of DropRuns
	due      []DueProvider                       // nil: jobs of provider
	off      map[string]jobs.Backoff             // a write of an answer ends one
	grants   map[string]bool                     // probes that Probe grants, each once
	lose     int                                 // runs that each write does not record
	paused   []PausedJob                         // by each write, and by PauseWaiting
	waited   []map[string]jobs.Backoff           // given to PauseWaiting
}

func (f *fakeStore) Due(context.Context, time.Duration) (time.Time, []DueProvider, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.due != nil {
		return time.Now(), f.due, nil
	}
	return time.Now(), []DueProvider{{Provider: cmp.Or(f.provider, "yfinance"), Now: true}}, f.errs["Due"]
}

func (f *fakeStore) Claim(_ context.Context, provider string, _ uuid.UUID, _ time.Time, limit int, _ bool) ([]Claim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	claims := f.claims[:min(limit, len(f.claims))]
	f.claims = f.claims[len(claims):]
	f.claimed = append(f.claimed, len(claims))
	return claims, cmp.Or(f.errs["Claim"], f.errs["Claim "+provider])
}

func (f *fakeStore) Acquire(_ context.Context, _ uuid.UUID, provider string, wants []*Want) (a Acquired, err error) {
	if err := cmp.Or(f.errs["Acquire"], f.errs["Acquire "+provider]); err != nil {
		return a, err
	}
	for _, w := range wants {
		if r, ok := f.served[provider]; ok {
			a.Served = append(a.Served, Finished{w, r})
		} else if f.busy != nil && f.busy(provider, w) {
			a.Busy = append(a.Busy, w)
		} else {
			a.Owned = append(a.Owned, w)
		}
	}
	return a, nil
}

func (f *fakeStore) Renew(_ context.Context, _ uuid.UUID, ids []string, provider string, symbols []market.Symbol) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
	if f.series == nil {
		f.series, f.jobs = map[string]int{}, map[string]int{}
	}
	for _, id := range ids {
		f.jobs[id]++
	}
	for _, s := range symbols {
		f.series[provider+" "+string(s)]++
	}
	return f.errs["Renew"]
}

func (f *fakeStore) Write(_ context.Context, _ uuid.UUID, b Batch) (Written, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.writeErr != nil {
		return Written{}, f.writeErr
	}
	f.wrote = append(f.wrote, b)
	if b.Answered {
		delete(f.off, b.Provider)
	}
	return Written{Recorded: max(0, len(b.Jobs)-f.lose), Paused: f.paused}, nil
}

func (f *fakeStore) Backoffs(context.Context) (map[string]jobs.Backoff, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.off), f.errs["Backoffs"]
}

func (f *fakeStore) Probe(_ context.Context, provider string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	granted := f.grants[provider]
	delete(f.grants, provider)
	return granted, f.errs["Probe"]
}

func (f *fakeStore) PauseWaiting(_ context.Context, off map[string]jobs.Backoff) ([]PausedJob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waited = append(f.waited, off)
	return f.paused, f.errs["PauseWaiting"]
}

func (f *fakeStore) Paused(context.Context) (int, error) { return 7, f.errs["Paused"] }

func (f *fakeStore) ForgetKeys(context.Context) error { return f.errs["ForgetKeys"] }

func (f *fakeStore) DropRuns(_ context.Context, _ time.Duration, limit int) (int64, error) {
	dropped := min(f.old, int64(limit))
	f.drops, f.old = f.drops+1, f.old-dropped
	return dropped, f.errs["DropRuns"]
}

// outcomes returns what was written of each symbol.
func (f *fakeStore) outcomes() map[market.Symbol]jobs.Outcome {
	all := map[market.Symbol]jobs.Outcome{}
	for _, b := range f.wrote {
		for _, c := range b.Jobs {
			for _, r := range c.Results {
				all[r.Symbol] = r.Outcome
			}
		}
	}
	return all
}

type unit struct {
	store  *fakeStore
	ingest *polltest.Ingest
	tick   *Ticker
	log    bytes.Buffer
}

// newUnit has one job of the symbols, due since an hour ago.
func newUnit(symbols ...market.Symbol) *unit {
	u := &unit{
		store:  &fakeStore{claims: []Claim{{JobID: "job", Scheduled: time.Now().Add(-time.Hour), Interval: time.Minute, Symbols: symbols}}},
		ingest: &polltest.Ingest{},
	}
	log := slog.New(slog.NewTextHandler(&u.log, nil))
	u.tick = New(Config{
		Store: u.store, Outbox: u.ingest, Log: log, Recorded: func(int) {}, Swept: func(int) {},
		Fetcher: fetch.New(fetch.Config{
			Budget: u.ingest, Ingest: u.ingest, Cache: polltest.NoCache{}, Chain: []string{"slow", "quick"}, Log: log,
			Count: func(string, jobs.Outcome) {},
		}),
	})
	return u
}

// run runs a tick. It returns the number of symbols by outcome, and how long the tick took.
func (u *unit) run(t *testing.T) (outcomes map[jobs.Outcome]int, took time.Duration) {
	t.Helper()
	began := time.Now()
	require.NoError(t, u.tick.Run(t.Context()))
	outcomes = map[jobs.Outcome]int{}
	for _, o := range u.store.outcomes() {
		outcomes[o]++
	}
	for _, b := range u.store.wrote {
		require.False(t, b.isEmpty(), "nothing is written for nothing")
	}
	return outcomes, time.Since(began)
}

// A plan of one call a second: the tick waits for each call until its time for calls is over.
func TestATickWaitsForItsBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(polltest.Symbols(30)...)
		var next time.Time
		u.ingest.Room = func(string) error {
			if wait := time.Until(next); wait > 0 {
				return polltest.Limited(wait)
			}
			next = time.Now().Add(time.Second)
			return nil
		}
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 17, fault.CodeProviderRateLimited: 13}, outcomes)
		require.Equal(t, 16*time.Second, took, "the next call would come too late")
	})
}

// A provider that hangs fails its own symbols, but not the tick. Symbols that the tick has no time for are out_of_time, and their series are
// released without a fetch.
func TestAHangingProviderEndsWithTheTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(polltest.Symbols(100)...)
		u.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error { return polltest.Hang(ctx) }
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{fault.CodeProviderTimeout: 4 * fetch.Slots, jobs.OutOfTime: 100 - 4*fetch.Slots}, outcomes)
		require.Equal(t, tickBudget-bookkeeping, took)
		require.Equal(t, 3, u.store.renewed, "leases are renewed every 5 s")
		fetched, released := 0, 0
		for _, b := range u.store.wrote {
			fetched, released = fetched+len(b.Fetched), released+len(b.Released)
		}
		require.Equal(t, []int{4 * fetch.Slots, 100 - 4*fetch.Slots}, []int{fetched, released})
	})
}

// A provider that hangs costs a job of auto a few calls, not a wait for each symbol.
func TestAutoSkipsAProviderThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(polltest.Symbols(400)...)
		u.store.provider = jobs.Auto
		asked := 0
		u.ingest.Answer = func(ctx context.Context, provider string, _ market.Symbol) error {
			if provider == "quick" {
				return nil
			}
			u.ingest.Lock()
			asked++
			u.ingest.Unlock()
			return polltest.Hang(ctx)
		}
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 400}, outcomes)
		require.LessOrEqual(t, took, 10*time.Second)
		require.LessOrEqual(t, asked, fetch.Slots+fetch.Slots/2)
	})
}

// The series of a provider that a job of auto is being fetched from stays leased while that takes: otherwise another replica would
// fetch it, too.
func TestAutoRenewsTheLeasesOfItsSeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL")
		u.store.provider = jobs.Auto
		u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
			time.Sleep(7 * time.Second)
			if provider == "slow" {
				return fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
			}
			return nil
		}
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 1}, outcomes)
		require.Equal(t, 14*time.Second, took)
		require.Equal(t, map[string]int{"slow AAPL": 1, "quick AAPL": 1, "auto AAPL": 2}, u.store.series)
		require.Equal(t, map[string]int{"job": 2}, u.store.jobs, "once each time")
	})
}

// A pass fetches only what it can record: after an error of the store it makes no more calls.
func TestAFailedWriteEndsThePass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit(polltest.Symbols(1000)...)
		u.store.writeErr = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
		u.ingest.Answer = func(context.Context, string, market.Symbol) error {
			time.Sleep(time.Second)
			return nil
		}
		began := time.Now()
		require.ErrorIs(t, u.tick.Run(t.Context()), u.store.writeErr)
		require.LessOrEqual(t, time.Since(began), 3*time.Second)
		require.Equal(t, 1, u.store.writes)
		require.LessOrEqual(t, len(u.ingest.Order), 3*fetch.Slots)
	})
}

// While another replica fetches a series, the tick checks repeatedly for its result. Other series do not wait for it.
func TestATickWaitsForABusySeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit("AAPL", "MSFT")
		began := time.Now()
		u.store.busy = func(_ string, w *Want) bool { return w.Symbol == "AAPL" && time.Since(began) < 3*time.Second }
		outcomes, took := u.run(t)
		require.Equal(t, map[jobs.Outcome]int{jobs.OK: 2}, outcomes)
		require.Equal(t, 3*time.Second, took)
		require.Equal(t, []market.Symbol{"MSFT", "AAPL"}, u.ingest.Order)
	})
}

// An earlier fetch of a series must serve all jobs that want it.
func TestWants(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	claims := []Claim{
		{Scheduled: at(0), Interval: 5 * time.Second, Symbols: []market.Symbol{"A", "B", "A"}},
		{Scheduled: at(3), Interval: time.Hour, Symbols: []market.Symbol{"B"}},
		{Scheduled: at(-2), Interval: 3 * time.Second, Resumed: at(9), Symbols: []market.Symbol{"C", "B"}},
		{Scheduled: at(1), Interval: time.Hour, Resumed: at(8), Symbols: []market.Symbol{"B"}},
	}
	all := collectWants(claims, time.Minute)
	require.Len(t, all, 3)
	require.Equal(t, Want{Request: fetch.Request{Symbol: "A", Planned: at(0)}, jobs: []int32{0}, Since: at(0), Fresh: at(-5), Period: 5 * time.Second}, *all[0])
	require.Equal(t, Want{
		Request: fetch.Request{Symbol: "B", Planned: at(-2)}, jobs: []int32{0, 1, 2, 3}, Since: at(9), Resumed: at(9), Fresh: at(-5), Period: 3 * time.Second,
	}, *all[1])
	require.Equal(t, Want{
		Request: fetch.Request{Symbol: "C", Planned: at(-2)}, jobs: []int32{2}, Since: at(9), Resumed: at(9), Fresh: at(-5), Period: 3 * time.Second,
	}, *all[2])
	require.Equal(t, []*Want{all[0], all[1]}, claims[0].wants, "each symbol once, though the job names it twice")
}

//go:build integration

package backfill_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A range is fetched answer by answer, and done.
func TestARange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Limit = 100
	start, end := polltest.Day(900), polltest.Day(10)
	id := b.create(t, start, end, "AAPL", "MSFT")
	b.tick(t)
	want := b.market.Closes("AAPL", start)
	for day := range want {
		if day >= end.Format(time.DateOnly) {
			delete(want, day)
		}
	}
	require.Equal(t, want, b.closes("AAPL", start))
	require.Equal(t, want, b.closes("MSFT", start))
	s := b.series(t, id)
	require.True(t, s.Done)
	require.EqualValues(t, len(want), s.Bars)
	require.Equal(t, 2*len(want), b.broker.events, "each bar once")
	require.Equal(t, start, s.First.UTC())
	calls := b.market.Calls()
	b.later(t)
	b.tick(t)
	require.Equal(t, calls, b.market.Calls(), "nothing is left to do")
	got, _, err := b.store.Backfill(t.Context(), id)
	require.NoError(t, err)
	require.True(t, got.Done)
}

// A follower gets each new bar, those of a downtime, and those that the provider had lost.
func TestAFollower(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := polltest.Day(300)
	b.market.Set(polltest.Day(5).Add(12 * time.Hour)) // the bar of this day is unfinished
	lost := polltest.Day(6)
	b.market.Lose(lost)
	id := b.create(t, start, time.Time{}, "AAPL")
	b.tick(t)
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
	s := b.series(t, id)
	require.True(t, s.Complete)
	require.False(t, s.Done)
	require.EqualValues(t, 0, s.Missing, "the lost bar is the last one")
	require.True(t, s.NotBefore.After(time.Now()))

	b.market.Set(polltest.Day(4))
	b.soon(t)
	b.tick(t)
	require.EqualValues(t, 1, b.series(t, id).Missing)
	b.market.Lose()
	b.soon(t)
	b.tick(t)
	require.Zero(t, b.series(t, id).Missing)
	events := b.broker.events

	b.market.Set(polltest.Day(0)) // everything was down for days
	b.soon(t)
	b.tick(t)
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
	require.Equal(t, events+4, b.broker.events, "only what is new is sent")
	b.later(t)
	b.tick(t)
	require.Equal(t, events+4, b.broker.events)
	require.Zero(t, b.series(t, id).Generation)
}

// A replica that dies after the commit has left its events in the outbox.
func TestADeathBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := polltest.Day(400)
	b.broker.down = true
	b.create(t, start, time.Time{}, "AAPL")
	require.NoError(t, b.Run(t.Context(), t.Context()))
	require.Equal(t, len(b.market.Closes("AAPL", start)), b.Count(t, "select count(*) from outbox"))
	require.Empty(t, b.closes("AAPL", start))
	b.broker.mu.Lock()
	b.broker.down = false
	b.broker.mu.Unlock()
	b.Exec(t, "update outbox set next_attempt_at = now()")
	require.Eventually(t, func() bool {
		_, err := b.ingest.Sweep(t.Context(), 200)
		require.NoError(t, err)
		return b.Count(t, "select count(*) from outbox") == 0
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
}

// counted counts the claims of a runner.
type counted struct {
	backfill.Store
	claims atomic.Int64
}

func (c *counted) ClaimSeries(ctx context.Context, provider string, token uuid.UUID) (backfill.Claim, bool, error) {
	c.claims.Add(1)
	return c.Store.ClaimSeries(ctx, provider, token)
}

// A claim costs a connection and a plan, so there are no more lanes than series: each claims what is due, and then nothing.
func TestFewClaims(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ series, claims int }{
		"none":                {0, 0},
		"one series":          {1, 1 + 1},
		"three series":        {3, 3 + 3},
		"more than at a time": {7, 7 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if c.series > 0 {
				b.create(t, polltest.Day(100), time.Time{}, polltest.Symbols(c.series)...)
			}
			store := &counted{Store: b.store}
			b.Runner.Store = store
			b.tick(t)
			require.EqualValues(t, c.claims, store.claims.Load())
		})
	}
}

// Two replicas share the work: no answer is fetched twice. One that is slower than its lease stores nothing.
func TestReplicasCompete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Limit = 50
	start := polltest.Day(1000)
	b.create(t, start, time.Time{}, polltest.Symbols(5)...)
	_, other := b.replica(t, b.broker)
	var wg sync.WaitGroup
	for _, r := range []*backfill.Runner{b.Runner, other, b.Runner} {
		wg.Go(func() {
			for range 3 {
				if err := r.Run(t.Context(), t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.tick(t)
	for _, s := range polltest.Symbols(5) {
		require.Equal(t, b.market.Closes(s, start), b.closes(s, start))
	}
	require.Equal(t, 5*len(b.market.Closes("AAPL", start)), b.broker.events)
}

func TestASlowReplicaStoresNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := polltest.Day(100)
	id := b.create(t, start, time.Time{}, "AAPL")
	b.market.During = func(_ market.Symbol, n int) {
		if n == 1 { // it hangs until its lease is over, and another replica has done its work
			b.Exec(t, "update backfill_series set lease_expires_at = now()")
			_, other := b.replica(t, b.broker)
			require.NoError(t, other.Run(t.Context(), t.Context()))
			require.True(t, b.series(t, id).Complete)
		}
	}
	b.tick(t)
	require.Equal(t, len(b.market.Closes("AAPL", start)), b.broker.events)
	require.Equal(t, 1, b.Count(t, "select count(*) from raw_responses"))
}

// A spent budget stops the provider for this tick; the next ones go on where it stopped.
func TestASpentBudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Limit = 100
	start := polltest.Day(500)
	id := b.create(t, start, time.Time{}, "AAPL")
	var mu sync.Mutex
	room := 0
	b.budget.spent = func() error {
		mu.Lock()
		defer mu.Unlock()
		if room--; room < 0 {
			return polltest.Limited(20 * time.Second)
		}
		return nil
	}
	for ticks := 1; ; ticks++ {
		room = 2
		before := b.market.Calls()
		b.tick(t)
		require.LessOrEqual(t, b.market.Calls()-before, 2)
		s := b.series(t, id)
		if s.Complete {
			require.Greater(t, ticks, 2)
			break
		}
		require.Zero(t, s.Failures)
		require.Equal(t, fault.CodeProviderRateLimited, s.LastCode)
		require.Greater(t, time.Until(s.NotBefore), 10*time.Second)
		b.soon(t)
	}
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
}

// An outage in the middle delays a series, and one unknown symbol does not delay the others.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Limit = 100
	start := polltest.Day(500)
	id := b.create(t, start, time.Time{}, "AAPL")
	down := false
	b.market.Fail = func() error {
		if down = b.market.Calls() >= 3 && b.market.Calls() < 6; down {
			return fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
		}
		return nil
	}
	for i := range 3 {
		b.tick(t)
		s := b.series(t, id)
		require.Equal(t, i+1, s.Failures)
		require.Equal(t, fault.CodeProviderUnavailable, s.LastCode)
		require.False(t, s.Complete)
		b.soon(t)
	}
	b.tick(t)
	require.Equal(t, b.market.Closes("AAPL", start), b.closes("AAPL", start))
	require.Zero(t, b.series(t, id).Failures)
	require.Empty(t, b.series(t, id).LastCode)

	b.market.Symbol = "MSFT"
	unknown := b.create(t, start, time.Time{}, "AAAA", "MSFT")
	b.tick(t)
	require.Equal(t, fault.CodeSymbolNotFound, b.series(t, unknown).LastCode)
	require.Greater(t, time.Until(b.series(t, unknown).NotBefore), 50*time.Minute)
	require.Equal(t, b.market.Closes("MSFT", start), b.closes("MSFT", start))
}

// A replica that is told to stop frees what it holds.
func TestAStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, polltest.Day(100), time.Time{}, "AAPL")
	calls, stop := context.WithCancel(t.Context())
	b.market.Fail = func() error { stop(); return fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x") }
	require.NoError(t, b.Run(t.Context(), calls))
	require.Zero(t, b.series(t, id).Failures, "it says nothing about the provider")
	b.market.Fail = nil
	b.tick(t)
	require.True(t, b.series(t, id).Complete)
}

func TestPauseResumeDelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.market.Limit = 100
	start := polltest.Day(500)
	id := b.create(t, start, time.Time{}, "AAPL")
	b.market.During = func(_ market.Symbol, n int) {
		if n == 2 {
			require.NoError(t, b.store.PauseBackfill(t.Context(), id, true))
		}
	}
	b.tick(t)
	require.Equal(t, 2, b.market.Calls(), "what is in flight is stored, and no more")
	paused := b.series(t, id)
	require.InDelta(t, 200-backfill.Overlap*5/7, paused.Bars, 2, "the second answer has an overlap")
	b.soon(t)
	b.tick(t)
	require.Equal(t, 2, b.market.Calls())
	require.NoError(t, b.store.PauseBackfill(t.Context(), id, false))
	b.market.During = func(_ market.Symbol, n int) {
		if n == 4 {
			require.NoError(t, b.store.RemoveBackfill(t.Context(), id))
		}
	}
	responses := b.Count(t, "select count(*) from raw_responses")
	b.tick(t)
	require.Equal(t, 4, b.market.Calls())
	require.Equal(t, responses+1, b.Count(t, "select count(*) from raw_responses"), "what is in flight is not stored")
	require.Zero(t, b.Count(t, "select count(*) from backfill_series"))
	_, _, err := b.store.Backfill(t.Context(), id)
	require.Equal(t, fault.CodeBackfillNotFound, fault.CodeOf(err))
	require.Equal(t, fault.CodeBackfillNotFound, fault.CodeOf(b.store.RemoveBackfill(t.Context(), id)))
	require.Equal(t, fault.CodeBackfillNotFound, fault.CodeOf(b.store.PauseBackfill(t.Context(), id, true)))
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := backfill.Config{Symbols: []market.Symbol{"AAPL"}, Provider: provider, Interval: market.Day, Start: polltest.Day(10)}
	first, err := b.store.CreateBackfill(t.Context(), c, "alice", "k")
	require.NoError(t, err)
	again, err := b.store.CreateBackfill(t.Context(), c, "alice", "k")
	require.NoError(t, err)
	require.Equal(t, first, again)
	bobs, err := b.store.CreateBackfill(t.Context(), c, "bob", "k")
	require.NoError(t, err)
	require.NotEqual(t, first, bobs)
	other := c
	other.Symbols = []market.Symbol{"MSFT"}
	_, err = b.store.CreateBackfill(t.Context(), other, "alice", "k")
	require.Equal(t, fault.CodeIdempotencyConflict, fault.CodeOf(err))
	b.Exec(t, "update backfills set created_at = now() - interval '25 hours'")
	expired, err := b.store.CreateBackfill(t.Context(), other, "alice", "k")
	require.NoError(t, err)
	require.NotEqual(t, first, expired)
	require.Equal(t, 3, b.Count(t, "select count(*) from backfills"))
	for range 2 {
		_, err = b.store.CreateBackfill(t.Context(), c, "alice", "")
		require.NoError(t, err)
	}
	require.Equal(t, 5, b.Count(t, "select count(*) from backfills"))
}

// The ids of a series rise even if a replica's clock was ahead.
func TestIDsRise(t *testing.T) {
	t.Parallel()
	b := setup(t)
	start := polltest.Day(20)
	b.market.Set(polltest.Day(2))
	b.create(t, start, time.Time{}, "AAPL")
	b.tick(t)
	b.Exec(t, "update bar_series set last_response_id = 'ffffffff-fffe-7000-8000-000000000000'")
	b.market.Set(polltest.Day(1))
	b.soon(t)
	b.tick(t)
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	newest := b.broker.points["AAPL"][polltest.Day(2)].RawResponseID
	require.Equal(t, byte(0xff), newest[5])
	require.Greater(t, newest.String(), "ffffffff-fffe-7000-8000-000000000000")
	require.NotEqual(t, uuid.Nil, newest)
}

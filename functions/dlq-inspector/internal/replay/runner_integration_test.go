//go:build integration

package replay_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/testenv"
)

type bundle struct {
	pool     *pgxpool.Pool
	store    *store.Store
	target   *lettertest.Target
	replayer *replay.Replayer
	runner   *replay.Runner
}

func setup(t *testing.T) bundle {
	t.Helper()
	pool := testenv.Postgres(t)
	b := bundle{pool: pool, store: store.New(pool), target: lettertest.NewTarget()}
	server := httptest.NewServer(b.target)
	t.Cleanup(server.Close)
	b.replayer = replay.New(replay.Config{Store: b.store, Function: server.URL, Client: server.Client(), MaxReplays: 2, Now: time.Now})
	b.runner = b.newRunner(nil)
	t.Cleanup(func() { b.runner.Wait(time.Minute) })
	return b
}

func (b bundle) newRunner(stopping <-chan struct{}) *replay.Runner {
	return b.runnerOf(uuid.NewString(), stopping)
}

func (b bundle) runnerOf(holder string, stopping <-chan struct{}) *replay.Runner {
	return replay.NewRunner(holder, b.store, b.replayer, slog.New(slog.DiscardHandler), replay.NewMetrics(vm.NewSet()), stopping)
}

func (b bundle) fill(t *testing.T, n int) {
	t.Helper()
	lettertest.Fill(t, b.pool, "price-events", "A", n)
}

func (b bundle) count(t *testing.T, query string) int {
	t.Helper()
	return lettertest.Count(t, b.pool, query)
}

func (b bundle) exec(t *testing.T, query string) {
	t.Helper()
	lettertest.Exec(t, b.pool, query)
}

func (b bundle) bulk(t *testing.T, id uuid.UUID) replay.Bulk {
	t.Helper()
	found, err := b.store.Bulk(t.Context(), id)
	require.NoError(t, err)
	return found
}

// tick does what a tick of the function does.
func (b bundle) tick(t *testing.T) {
	t.Helper()
	require.NoError(t, errors.Join(b.store.RecoverReplays(t.Context()), b.store.ForgetKeys(t.Context()), b.runner.Advance(t.Context(), 15*time.Second)))
}

// finish ticks until the replay has ended, and returns it.
func (b bundle) finish(t *testing.T, id uuid.UUID) (v replay.Bulk) {
	t.Helper()
	require.Eventually(t, func() bool {
		b.tick(t) // returns once no work is left
		v = b.bulk(t, id)
		return v.Status != replay.Running
	}, 60*time.Second, time.Millisecond)
	require.Zero(t, b.count(t, "select count(*) from dead_letters where replay_id is not null or status = 'replaying'"))
	return v
}

// Another process resumes a replay with the letters that the process before had in flight.
func TestBulkTakesOverLettersThatWereUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, 30)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 100}, "", nil)
	require.NoError(t, err)
	claimed, ok, err := b.store.ClaimBulk(t.Context(), "another process")
	require.NoError(t, err)
	require.True(t, ok)
	turn := b.runner.Turn(claimed)
	letters, err := turn.TakeSelected(t.Context())
	require.NoError(t, err)
	require.Len(t, letters, 10)
	// The process dies here. Until its lease ends, nothing moves; then all of it does.
	b.tick(t)
	require.Equal(t, 10, b.count(t, "select count(*) from dead_letters where status = 'replaying'"))
	b.exec(t, "update dead_letter_replays set lease_expires_at = now()")
	v := b.finish(t, created.ID)
	require.EqualValues(t, 30, v.Outcomes["resolved"])
	require.Equal(t, 30, b.target.Events(), "each was delivered once")
	// The process was not dead, only slow: what it writes now is lost.
	require.ErrorIs(t, b.store.Settle(t.Context(), claimed, replay.Advance{Outcomes: map[letter.Outcome]int64{letter.OutcomeRefused: 10}},
		[]replay.Result{turn.Judge(letters[0], letter.Verdict{Outcome: letter.OutcomeRefused, Code: "x", Reason: "x"})}), replay.ErrLost)
	require.Equal(t, v, b.bulk(t, v.ID))
}

// A process that starts in the place of one that was killed resumes its replay at once; any other waits until the lease ends, but for no
// tick.
func TestBulkOfAKilledProcessIsResumedWithoutATick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, 30)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 100}, "", nil)
	require.NoError(t, err)
	die := func(holder string) {
		claimed, ok, err := b.store.ClaimBulk(t.Context(), holder)
		require.NoError(t, err)
		require.True(t, ok)
		_, err = b.runner.Turn(claimed).TakeSelected(t.Context())
		require.NoError(t, err)
	}
	inFlight := func() int { return b.count(t, "select count(*) from dead_letters where status = 'replaying'") }

	die("here:8080")
	b.runnerOf("there:8080", nil).Resume(t.Context())
	require.Equal(t, 10, inFlight(), "another process does not take it")
	b.exec(t, "update dead_letter_replays set lease_expires_at = now() + interval '1 hour'")
	stopping := make(chan struct{})
	here := b.runnerOf("here:8080", stopping)
	here.Resume(t.Context())
	require.Eventually(t, func() bool { return b.target.Events() > 0 }, 10*time.Second, time.Millisecond)
	close(stopping)
	here.Wait(time.Minute)
	require.Equal(t, replay.Running, b.bulk(t, created.ID).Status, "it is in the middle of it")

	die("here:8080")
	b.exec(t, "update dead_letter_replays set lease_expires_at = now() + interval '300 milliseconds'")
	b.runnerOf("there:8080", nil).Resume(t.Context()) // once
	require.Eventually(t, func() bool { return b.bulk(t, created.ID).Status == replay.Completed }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 30, b.bulk(t, created.ID).Outcomes["resolved"])
}

// Letters that are in flight when a replay is cancelled and its process dies are opened again once the lease has ended.
func TestLettersOfACancelledBulkAreOpenedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, 30)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 100}, "", nil)
	require.NoError(t, err)
	claimed, _, err := b.store.ClaimBulk(t.Context(), "another process")
	require.NoError(t, err)
	_, err = b.runner.Turn(claimed).TakeSelected(t.Context())
	require.NoError(t, err)
	_, err = b.store.CancelBulk(t.Context(), created.ID, "operator")
	require.NoError(t, err)
	b.tick(t)
	require.Equal(t, 10, b.count(t, "select count(*) from dead_letters where status = 'replaying'"))
	b.exec(t, "update dead_letter_replays set lease_expires_at = now() - interval '1 second'")
	b.tick(t)
	require.Equal(t, 30, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_id is null"))
	require.Equal(t, 10, b.count(t, "select count(*) from dead_letter_audit where action = 'recover'"))
}

// A process that stops gives its replays back at once: requests that hang are abandoned, and another replica resumes the replay without
// waiting for a lease.
func TestBulkIsHandedOverWhenItsProcessStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, 2*replay.MaxInFlight)
	hanging, stopping := make(chan struct{}), make(chan struct{})
	b.target.Answer = func(*http.Request) (int, string) { <-hanging; return 204, "" }
	stopped := b.newRunner(stopping)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 10000}, "", nil)
	require.NoError(t, err)
	require.NoError(t, stopped.Start(t.Context()))
	require.Eventually(t, func() bool { return b.target.Events() == replay.MaxInFlight }, 10*time.Second, time.Millisecond)
	close(stopping)
	began := time.Now()
	stopped.Wait(time.Minute)
	require.Less(t, time.Since(began), replay.StopGrace+5*time.Second)
	require.Zero(t, b.count(t, "select count(*) from dead_letters where status = 'replaying' or replay_troubles > 0"))
	close(hanging)
	b.tick(t)
	v := b.bulk(t, created.ID)
	require.Equal(t, replay.Completed, v.Status)
	require.EqualValues(t, 2*replay.MaxInFlight, v.Outcomes["resolved"])
}

// Batches that count their letters in the same rows wait for each other, but never in a circle, which would cost a second each time.
func TestBatchesThatShareCountsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, "create or replace function dead_letter_slot() returns smallint language sql stable as 'select 1::smallint'")
	b.fill(t, 2000)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 10000}, "", nil)
	require.NoError(t, err)
	v := b.finish(t, created.ID)
	require.EqualValues(t, 2000, v.Outcomes["resolved"])
	require.Zero(t, b.count(t, "select deadlocks from pg_stat_database where datname = current_database()"))
}

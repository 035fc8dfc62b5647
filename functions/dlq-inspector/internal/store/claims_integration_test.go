//go:build integration

package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
)

// leased creates a replay of n letters, leases it, and returns it with takes of the letters.
func leased(t *testing.T, s *store.Store, pool *pgxpool.Pool, n int) (replay.Bulk, []replay.Take) {
	t.Helper()
	lettertest.Fill(t, pool, "price-events", "A", n)
	_, err := s.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 100}, "", nil)
	require.NoError(t, err)
	b, ok, err := s.ClaimBulk(t.Context(), "another process")
	require.NoError(t, err)
	require.True(t, ok)
	letters, err := s.Selected(t.Context(), b, n)
	require.NoError(t, err)
	takes := make([]replay.Take, len(letters))
	for i, l := range letters {
		takes[i] = replay.Take{ID: l.ID, Token: uuid.New(), Begin: true}
	}
	return b, takes
}

// resolved returns the results of letters that the function accepted.
func resolved(t *testing.T, letters []letter.Stored) (all []replay.Result) {
	t.Helper()
	for _, l := range letters {
		after, err := l.End(*l.Token, letter.OutcomeResolved)
		require.NoError(t, err)
		all = append(all, replay.Result{Letter: l, After: after, Verdict: letter.Verdict{Outcome: letter.OutcomeResolved}})
	}
	return all
}

// waiting counts the statements that wait for a lock.
const waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

// A process that has lost its replay takes no letter and moves nothing, so no letter is sent by two processes at a time.
func TestAClaimWithoutTheLeaseChangesNothing(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, s *store.Store, pool *pgxpool.Pool, id uuid.UUID){
		"another process has the replay": func(t *testing.T, s *store.Store, pool *pgxpool.Pool, _ uuid.UUID) {
			t.Helper()
			lettertest.Exec(t, pool, "update dead_letter_replays set lease_expires_at = now()")
			_, ok, err := s.ClaimBulk(t.Context(), "another process")
			require.NoError(t, err)
			require.True(t, ok)
		},
		"the replay is cancelled": func(t *testing.T, s *store.Store, _ *pgxpool.Pool, id uuid.UUID) {
			t.Helper()
			_, err := s.CancelBulk(t.Context(), id, "operator")
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := open(t)
			b, takes := leased(t, s, pool, 10)
			lose(t, s, pool, b.ID)
			before, err := s.Bulk(t.Context(), b.ID)
			require.NoError(t, err)
			a := replay.Advance{
				Cursor: &takes[9].ID, Outcomes: map[letter.Outcome]int64{letter.OutcomeSkipped: 1},
				Verdicts: []replay.LetterVerdict{{ID: takes[0].ID, Verdict: letter.Verdict{Outcome: letter.OutcomeSkipped, Code: "x"}}},
			}
			letters, err := s.Claim(t.Context(), b, a, takes, nil)
			require.ErrorIs(t, err, replay.ErrLost)
			require.Empty(t, letters)
			require.ErrorIs(t, s.Note(t.Context(), b, a), replay.ErrLost)
			after, err := s.Bulk(t.Context(), b.ID)
			require.NoError(t, err)
			require.Equal(t, before, after)
			require.Equal(t, 10, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'open' and replay_id is null"))
			require.Zero(t, lettertest.Count(t, pool, "select (select count(*) from dead_letter_audit) + (select count(*) from dead_letter_verdicts)"))
			counted(t, pool)
		})
	}
}

// A batch that waits for one of its letters holds up no other batch of the replay.
func TestBatchesOfAReplayAreWrittenConcurrently(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	b, takes := leased(t, s, pool, 30)
	first, err := s.Claim(t.Context(), b, replay.Advance{Cursor: &takes[9].ID}, takes[:10], nil)
	require.NoError(t, err)
	hold, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer hold.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // rolled back below, unless the test fails
	_, err = hold.Exec(t.Context(), "select from dead_letters where id in ($1, $2) for update", takes[5].ID, takes[15].ID)
	require.NoError(t, err)
	done, results := make(chan error, 2), resolved(t, first)
	go func() {
		done <- s.Settle(t.Context(), b, replay.Advance{Outcomes: map[letter.Outcome]int64{letter.OutcomeResolved: 10}}, results)
	}()
	go func() {
		_, err := s.Claim(t.Context(), b, replay.Advance{Cursor: &takes[19].ID}, takes[10:20], nil)
		done <- err
	}()
	require.Eventually(t, func() bool { return lettertest.Count(t, pool, waiting) == 2 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	letters, err := s.Claim(ctx, b, replay.Advance{}, takes[20:], nil)
	require.NoError(t, err)
	require.Len(t, letters, 10)
	require.NoError(t, s.Settle(ctx, b, replay.Advance{Outcomes: map[letter.Outcome]int64{letter.OutcomeResolved: 10}}, resolved(t, letters)))
	require.Equal(t, 2, lettertest.Count(t, pool, waiting), "the others still wait")
	require.NoError(t, hold.Rollback(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	after, err := s.Bulk(t.Context(), b.ID)
	require.NoError(t, err)
	require.EqualValues(t, 20, after.Outcomes[letter.OutcomeResolved])
	require.Equal(t, takes[19].ID, after.Cursor)
	require.Equal(t, 10, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'replaying'"))
	counted(t, pool)
}

// The lease may be lost after the letters were written and before they are counted. Then nothing is written: letters that are settled and
// not counted would count as skipped in the end.
func TestASettlementThatLosesTheLeaseMidwayChangesNothing(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	b, takes := leased(t, s, pool, 10)
	letters, err := s.Claim(t.Context(), b, replay.Advance{Cursor: &takes[9].ID}, takes, nil)
	require.NoError(t, err)
	successor, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer successor.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // committed below, unless the test fails
	_, err = successor.Exec(t.Context(), "update dead_letter_replays set lease_token = null, lease_expires_at = now()")
	require.NoError(t, err)
	done, results := make(chan error, 1), resolved(t, letters)
	go func() {
		done <- s.Settle(t.Context(), b, replay.Advance{Outcomes: map[letter.Outcome]int64{letter.OutcomeResolved: 10}}, results)
	}()
	require.Eventually(t, func() bool { return lettertest.Count(t, pool, waiting) == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, successor.Commit(t.Context()))
	require.ErrorIs(t, <-done, replay.ErrLost)
	require.Equal(t, 10, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'replaying'"))
	_, ok, err := s.ClaimBulk(t.Context(), "a third process")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 10, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'open' and replay_id is not null"), "they are sent again")
	counted(t, pool)
}

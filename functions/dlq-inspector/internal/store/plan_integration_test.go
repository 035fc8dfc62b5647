//go:build integration

package store

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// Letters arrive faster than autovacuum tells the planner of them, and a replay leaves dead entries of the status replaying behind it:
// lists and replays go by the index that has their letters in order, or by id, all the same.
func TestLettersAreFoundByIndex(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	lettertest.Exec(t, pool, "alter table dead_letters set (autovacuum_enabled = off)")
	lettertest.Fill(t, pool, "price-events", "A", 5000)
	indexed := postgres.NewIndexed(pool, 0)
	selectArgs := func(f letter.Filter, cursor ...any) []any {
		return append(append(filterArgs(f), cursor...), uuid.Max, 500)
	}
	type query struct {
		db   querier
		sql  string
		args []any
		by   string
	}
	list := func(f letter.Filter, last *letter.ListKey, by string) query {
		sql, args := listed(f, nil, last, 50, true)
		return query{indexed, sql, args, by}
	}
	bound, boundArgs := nth(letter.Filter{}, nil, lookedThrough)
	settle := []any{uuid.Nil, uuid.Nil}
	settle = append(settle, resultColumns([]replay.Result{{Letter: letter.Stored{State: letter.State{Token: &uuid.UUID{}}}}})...)
	for name, q := range map[string]query{
		"all":                   list(letter.Filter{}, nil, "dead_letters_by_status_time"),
		"by status":             list(letter.Filter{Status: letter.Open}, nil, "dead_letters_by_status_time"),
		"by symbol":             list(letter.Filter{Symbol: "A"}, nil, "dead_letters_by_symbol"),
		"searched":              list(letter.Filter{Q: "cause"}, &letter.ListKey{}, "dead_letters_by_status_time"),
		"looked through":        {indexed, bound, boundArgs, "dead_letters_by_status_time"},
		"replayed":              {indexed, selectAfterID[false], selectArgs(letter.Filter{Topic: "price-events"}, uuid.Nil), "dead_letters_by_status"},
		"replayed to its topic": {indexed, selectAfterOrigin[false], selectArgs(letter.Filter{}, "price-events", 0, int64(math.MaxInt64)), "dead_letters_by_place"},
		"settled":               {pool, settleLetters, settle, "dead_letters_pk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rows, err := q.db.Query(t.Context(), "explain (costs off) "+q.sql, q.args...)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			plan := strings.Join(lines, "\n")
			require.Contains(t, plan, " using "+q.by+" on ")
			require.NotContains(t, plan, "Seq Scan on dead_letters")
			require.NotContains(t, plan, "Bitmap")
		})
	}
}

// A session keeps the plans of its triggers. One that changed a single letter first counts thousands as fast as one that did not.
func TestCountingDoesNotComparePairs(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	lettertest.Fill(t, pool, "price-events", "A", 6000)
	change := func(letters int, before ...string) time.Duration {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		own := conn.Hijack()         // a session of its own
		defer own.Close(t.Context()) //nolint:errcheck // of a test
		for _, sql := range before {
			_, err = own.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		began := time.Now()
		_, err = own.Exec(t.Context(), "update dead_letters set replay_troubles = 1 where id in (select id from dead_letters limit $1)", letters)
		require.NoError(t, err)
		return time.Since(began)
	}
	change(6000)
	usual := change(6000)
	require.Less(t, change(6000, "update dead_letters set replay_troubles = 2 where id = (select min(id::text)::uuid from dead_letters)"), 4*usual)
}

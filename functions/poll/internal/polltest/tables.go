//go:build integration

package polltest

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// Tables are the polling tables in a database of this test's own.
type Tables struct{ Pool *pgxpool.Pool }

// NewTables returns empty tables.
func NewTables(t *testing.T) Tables {
	t.Helper()
	return Tables{testenv.Postgres(t)}
}

// Exec changes the tables. It retries, since a replica may be at work.
func (b Tables) Exec(t *testing.T, query string, args ...any) {
	t.Helper()
	require.NoError(t, postgres.Retry(t.Context(), func() error {
		_, err := b.Pool.Exec(t.Context(), query, args...)
		return err
	}))
}

// Count returns the number that a query returns.
func (b Tables) Count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, b.Pool.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// Runs returns how many runs of a job are recorded.
func (b Tables) Runs(t *testing.T, id string) int {
	t.Helper()
	return b.Count(t, "select count(*) from polling_runs where job_id = $1", id)
}

// Age makes jobs of a minute due again, for another period: all that is known becomes 61 seconds older.
func (b Tables) Age(t *testing.T) {
	t.Helper()
	b.Exec(t, "update polling_jobs set created_at = created_at - interval '61 seconds', next_run_at = next_run_at - interval '61 seconds'")
	b.Exec(t, `
		update polling_series
		set attempted_at = attempted_at - interval '61 seconds', planned = planned - interval '61 seconds', ask_at = ask_at - interval '61 seconds'`)
}

// ProbesAreDue makes the waits of providers that are backed off end now.
func (b Tables) ProbesAreDue(t *testing.T) {
	t.Helper()
	b.Exec(t, "update provider_backoffs set until_at = now()")
}

// FailedForADay makes what failed have failed for a day.
func (b Tables) FailedForADay(t *testing.T) {
	t.Helper()
	b.Exec(t, "update polling_jobs set failing_since = failing_since - interval '24 hours'")
}

// ManyJobs inserts n jobs, each of one of the symbols S0, S1 and so on.
func (b Tables) ManyJobs(t *testing.T, n, symbols int, provider string, interval int) {
	t.Helper()
	b.Exec(t, `
		insert into polling_jobs (id, symbols, provider, interval_s, next_run_at)
		select 'poll_' || md5($3 || i), array['S' || i % $2], $3, $4, now() from generate_series(1, $1) i`, n, symbols, provider, interval)
}

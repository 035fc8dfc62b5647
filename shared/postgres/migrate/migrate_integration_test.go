//go:build integration

package migrate_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	tern "github.com/jackc/tern/v2/migrate"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/migrations"
	"marketdata/shared/testenv"
)

// at returns a database with the schema of an earlier version.
func at(t *testing.T, version int32) (url string, conn *pgx.Conn) {
	t.Helper()
	url = testenv.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // the database is dropped next
	_, err = conn.Exec(t.Context(), "drop schema public cascade; create schema public")
	require.NoError(t, err)
	m, err := tern.NewMigrator(t.Context(), conn, "public.schema_version")
	require.NoError(t, err)
	require.NoError(t, m.LoadMigrations(migrations.FS))
	require.NoError(t, m.MigrateTo(t.Context(), version))
	return url, conn
}

// dump returns the averages, one per line.
func dump(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		select concat_ws(' ', symbol, provider, window_size, average, points_used, complete, as_of, oldest, updated_at)
		from symbol_averages order by symbol, window_size`)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

func TestMigrationKeepsAverages(t *testing.T) {
	t.Parallel()
	url, conn := at(t, 11)
	_, err := conn.Exec(t.Context(), `
		insert into price_series (symbol, provider) values ('A', 'p'), ('B', 'p'), ('NONE', 'p');
		insert into symbol_averages (symbol, provider, window_size, average, points_used, complete, as_of, oldest, updated_at) values
			('A', 'p', 5, 1.50, 5, true, '2026-01-01T00:00:09.000001Z', '2026-01-01T00:00:05Z', '2026-01-02Z'),
			('A', 'p', 20, 1.123456789012345678901234, 9, false, '2026-01-01T00:00:09.000001Z', '2026-01-01Z', '2026-01-02Z'),
			('A', 'p', 50, 7, 9, false, '2026-01-01T00:00:09.000001Z', '2026-01-01Z', '2026-01-02Z'),
			('B', 'p', 5, 3, 1, false, '2026-01-01Z', '2026-01-01Z', '2026-01-02Z')`)
	require.NoError(t, err)
	before := dump(t, conn)
	require.Len(t, before, 4)
	_, err = conn.Exec(t.Context(), `insert into symbol_averages (symbol, provider, window_size, average, points_used, complete, as_of, oldest)
		values ('B', 'p', 7, 9, 1, false, '2025-12-01Z', '2025-12-01Z')`) // of a window that is no longer configured
	require.NoError(t, err)
	require.NoError(t, migrate.Up(t.Context(), url))
	require.Equal(t, before, dump(t, conn))
	require.NoError(t, migrate.Up(t.Context(), url), "a second call changes nothing")
}

//go:build integration

package migrate_test

import (
	"context"
	"fmt"
	neturl "net/url"
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

// Letters of the version before are counted and wait for the index, also if the migration was interrupted between its steps.
func TestMigrationCountsLetters(t *testing.T) {
	t.Parallel()
	url, conn := at(t, 12)
	_, err := conn.Exec(t.Context(), `
		insert into dead_letters (id, status, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at, failure_count)
		select gen_random_uuid(), (array['open', 'sent'])[1 + i % 2], true, sha256(i::text::bytea), 'x', '[]', '{}', 'c', 'r', 'f' || i % 3, now(), now(), 2
		from generate_series(1, 12000) i`)
	require.NoError(t, err)
	require.NoError(t, migrate.Up(t.Context(), url))
	for range 2 {
		var counts, failures, waiting int
		require.NoError(t, conn.QueryRow(t.Context(), `
			select (select sum(letters) from dead_letter_counts where status = 'open'), (select sum(failures) from dead_letter_hours),
				(select count(*) from dead_letters_to_index)`).Scan(&counts, &failures, &waiting))
		require.Equal(t, []int{6000, 24000, 12000}, []int{counts, failures, waiting})
		require.NoError(t, migrate.Up(t.Context(), url), "a second call changes nothing")
	}
	_, err = conn.Exec(t.Context(), "update dead_letters set status = 'discarded'")
	require.NoError(t, err)
	var discarded int
	require.NoError(t, conn.QueryRow(t.Context(), "select sum(letters) from dead_letter_counts where status = 'discarded'").Scan(&discarded))
	require.Equal(t, 12000, discarded)
}

// A role that may not create the extension gets everything but the index.
func TestMigrationWithoutTheExtension(t *testing.T) {
	t.Parallel()
	url, conn := at(t, 12)
	_, err := conn.Exec(t.Context(), "drop extension if exists pg_trgm")
	require.NoError(t, err)
	var database, role string
	require.NoError(t, conn.QueryRow(t.Context(), "select current_database(), 'plain_' || md5(current_database())").Scan(&database, &role))
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`
		create role %[1]s login password 'plain';
		grant usage, create on schema public to %[1]s;
		do $$ declare t record; begin
			for t in select c.relname, c.relkind from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') loop
				execute format('alter table %%I owner to %[1]s', t.relname);
			end loop;
		end $$`, role))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), fmt.Sprintf("reassign owned by %[1]s to current_user; drop owned by %[1]s; drop role %[1]s", role))
		require.NoError(t, err)
	})
	as, err := neturl.Parse(url)
	require.NoError(t, err)
	as.User = neturl.UserPassword(role, "plain")
	require.NoError(t, migrate.Up(t.Context(), as.String()))
	var searchable bool
	require.NoError(t, conn.QueryRow(t.Context(), "select to_regclass('dead_letter_texts_search') is not null").Scan(&searchable))
	require.False(t, searchable)
	require.NoError(t, migrate.Up(t.Context(), url))
	require.NoError(t, conn.QueryRow(t.Context(), "select to_regclass('dead_letter_texts_search') is not null").Scan(&searchable))
	require.True(t, searchable, "the index comes with the next migration that may create it")
}

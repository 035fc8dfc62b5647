//go:build integration

package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// Reads stay flat as the table grows: every read of points, also for an average that is computed, is an index scan that needs no sort, for the plan that a
// prepared statement ends with, also while the planner has no statistics (until autovacuum comes by it would sort a
// symbol's whole history, were it not for what goes before each of them).
func TestReadsOfPointsAreIndexScans(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), testenv.PostgresURL(t))
	require.NoError(t, err)
	defer pool.Close()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec := func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("alter table price_points set (autovacuum_enabled = off)")
	exec(`insert into price_points (symbol, provider, observed_at, price, raw_response_id)
		select 'S' || i % 20, 'p', timestamptz '2020-01-01Z' + make_interval(secs => i), 1, gen_random_uuid() from generate_series(1, 50000) i`)
	exec("set plan_cache_mode = force_generic_plan")
	key, bounds := "'S1', 'p'", "'2020-01-01Z', '2030-01-01Z', 50"
	for name, q := range map[string]struct{ sql, args string }{
		"down": {selectPointsDown, key + ", " + bounds}, "up": {selectPointsUp, key + ", " + bounds},
	} {
		exec(fmt.Sprintf("prepare %s as %s", name, q.sql))
	}
	for _, analysed := range []bool{false, true} {
		if analysed {
			exec("analyze price_points")
		}
		for name, scan := range map[string]string{"down": "Index Scan Backward using price_points_pk", "up": "Index Scan using price_points_pk"} {
			plan := explain(t, indexed(conn), fmt.Sprintf("execute %s (%s, %s)", name, key, bounds))
			require.Contains(t, plan, scan)
			require.NotContains(t, plan, "Sort")
			require.NotContains(t, plan, "Bitmap")
			require.NotContains(t, plan, "Seq Scan")
		}
		plan := explain(t, indexed(conn), adoptSeries)
		require.Contains(t, plan, "using price_points_pk")
		require.NotContains(t, plan, "Seq Scan")
	}
	// The series' rows and averages, too, are found by their keys, in the order in which they must be locked.
	exec("insert into price_series select 'S' || i, 'p' from generate_series(1, 5000) i")
	exec("prepare lock_series as " + lockSeries)
	exec("prepare update_series as " + updateSeries)
	require.Contains(t, explain(t, indexed(conn), `execute lock_series ('{S1,S2}', '{p,p}')`), "using price_series_pk")
	require.NotContains(t, explain(t, indexed(conn), `execute lock_series ('{S1,S2}', '{p,p}')`), "Seq Scan")
	require.Contains(t, explain(t, indexed(conn), `execute update_series ('{2}', '{S1,S2}', '{p,p}', '{"\\x01","\\x01"}', '{"{1}","{1}"}', '{"{now}","{now}"}', '{1,1}', '{now,now}')`), "using price_series_pk")
}

// A batch finds its series by the index, however many there are and whatever the planner knows of them.
func TestABatchFindsItsSeriesByIndex(t *testing.T) {
	t.Parallel()
	conn, err := testenv.Postgres(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing is kept
	exec := func(sql string) {
		_, err := tx.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(guard)
	exec("set local plan_cache_mode = force_generic_plan")
	exec("prepare lock as " + lockSeries)
	exec("prepare update as " + updateSeries)
	for _, rows := range []int{0, 20, 20_000} {
		exec(fmt.Sprintf("insert into price_series (symbol, provider) select 'S' || i || '-%d', 'p' from generate_series(1, %d) i", rows, rows))
		for _, call := range []string{"lock ('{S1}', '{p}')", "update ('{5}', '{S1}', '{p}', array[''::bytea], array['{1}'], array['{}'], '{1}', array[now()])"} {
			plan := explain(t, tx, "execute "+call)
			require.Contains(t, plan, "Index Scan using price_series_pk", rows)
			require.NotContains(t, plan, "Seq Scan", rows)
		}
		exec("analyze price_series")
	}
}

// Rows are locked in the order of the batch, whatever the plan: else two batches could each wait for a row that the other has locked.
func TestSeriesAreLockedInOrder(t *testing.T) {
	t.Parallel()
	tx, err := testenv.Postgres(t).Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing is kept
	for _, sql := range []string{
		"insert into price_series (symbol, provider) select 'S' || i, 'p' from generate_series(9, 1, -1) i",
		"set local enable_nestloop = off", // a hash join reads the rows in the order of the table
		"set local enable_mergejoin = off",
	} {
		_, err := tx.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	rows, err := tx.Query(t.Context(), "select n from ("+lockSeries+") locked", []string{"S2", "S5", "S8"}, []string{"p", "p", "p"})
	require.NoError(t, err)
	order, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, order)
}

// What is read in an order has it whatever the plan: the planner may choose another index, or none.
func TestRowsAreInOrderWhateverThePlan(t *testing.T) {
	t.Parallel()
	tx, err := testenv.Postgres(t).Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing is kept
	for _, sql := range []string{
		`insert into price_points (symbol, provider, observed_at, price, raw_response_id)
			select 'S', 'p', timestamptz '2020-01-01Z' + make_interval(secs => i * 7 % 10), 1, gen_random_uuid() from generate_series(0, 9) i`,
		"insert into price_series (symbol, provider, windows) select 'S' || i * 7 % 10, 'p', '{5}' from generate_series(0, 9) i",
		"set local enable_indexscan = off",
		"set local enable_bitmapscan = off",
	} {
		_, err := tx.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		sql  string
		args []any
		want []string
	}{
		"up":     {"select to_char(observed_at at time zone 'UTC', 'SS') from (" + selectPointsUp + ") points", nil, []string{"00", "01", "02"}},
		"down":   {"select to_char(observed_at at time zone 'UTC', 'SS') from (" + selectPointsDown + ") points", nil, []string{"09", "08", "07"}},
		"series": {"select symbol from (" + selectSeries + ") page", []any{"", "", 3}, []string{"S0", "S1", "S2"}},
	} {
		if c.args == nil {
			c.args = []any{"S", "p", "2020-01-01Z", "2020-01-02Z", 3}
		}
		rows, err := tx.Query(t.Context(), c.sql, c.args...)
		require.NoError(t, err)
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Equal(t, c.want, got, name)
	}
}

// So does the stream, for a hundred series of many.
func TestStatesAreFoundByIndex(t *testing.T) {
	t.Parallel()
	conn, err := testenv.Postgres(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec := func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("set plan_cache_mode = force_generic_plan")
	exec("prepare states as " + selectStates)
	list := func(element string) string { return "'{" + element + strings.Repeat(","+element, 99) + "}'" }
	for _, rows := range []int{0, 20, 20_000} {
		exec(fmt.Sprintf("insert into price_series (symbol, provider) select 'S' || i || '-%d', 'p' from generate_series(1, %d) i", rows, rows))
		plan := explain(t, indexed(conn), "execute states ("+list("S1")+", "+list("p")+", "+list("1")+")")
		require.Contains(t, plan, "Index Scan using price_series_pk", rows)
		require.NotContains(t, plan, "Seq Scan", rows)
		require.NotContains(t, plan, "Join", rows)
		exec("analyze price_series")
	}
}

// And a page of the list, wherever it begins.
func TestAPageOfSeriesIsReadByIndex(t *testing.T) {
	t.Parallel()
	conn, err := testenv.Postgres(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	exec := func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("set plan_cache_mode = force_generic_plan")
	exec("prepare page as " + selectSeries)
	for _, rows := range []int{0, 20, 20_000} {
		exec(fmt.Sprintf("insert into price_series (symbol, provider) select 'S' || i || '-%d', 'p' from generate_series(1, %d) i", rows, rows))
		plan := explain(t, indexed(conn), "execute page ('S1', 'p', 101)")
		require.Contains(t, plan, "Index Scan using price_series_pk", rows)
		require.NotContains(t, plan, "Seq Scan", rows)
		require.NotContains(t, plan, "Sort", rows)
		exec("analyze price_series")
	}
}

func explain(t *testing.T, db querier, sql string) string {
	t.Helper()
	rows, err := db.Query(t.Context(), "explain (costs off) "+sql)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

//go:build integration

package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres"
	"marketdata/shared/testenv/scrape"
)

// The cost of a sweep depends on the rows that it claims, not on the size of the backlog.
func TestUpkeepUsesIndexes(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	_, err := b.pool.Exec(t.Context(), "insert into outbox (topic, key, value, headers) select 't', 'k', 'v', '{}' from generate_series(1, 20000)")
	require.NoError(t, err)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing was written
	plan := func(query string, args ...any) string {
		rows, err := tx.Query(t.Context(), "explain "+query, args...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return strings.Join(lines, "\n")
	}
	claim := plan(claimQuery, 10, sweepLease)
	require.Contains(t, claim, "Index Scan using outbox_due")
	require.NotContains(t, claim, "Sort")
	require.NotContains(t, claim, "Seq Scan")
	drop := plan(dropQuery, time.Hour, 10) // by age, among those that have a body
	require.Contains(t, drop, "Index Scan using raw_responses_with_body")
	require.NotContains(t, drop, "Seq Scan")
	_, err = tx.Exec(t.Context(), postgres.ByIndex(storeWait)) // as measure does
	require.NoError(t, err)
	require.Contains(t, plan(measureQuery), "Index Scan using outbox_pk")

	set := metrics.NewSet()
	b.in.Observe(set)
	require.NoError(t, b.in.measure(t.Context()))
	require.InDelta(t, 10_000, scrape.Values(t, set.WritePrometheus)["marketdata_outbox_rows"], 0, "it stops counting there")
}

// The row that has been due longest goes first.
func TestRowsAreClaimedInTheOrderInWhichTheyWereDue(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A", "B", "C")
	_, err := b.pool.Exec(t.Context(), `
		update outbox
		set next_attempt_at = now() - case key when 'A' then interval '1 second' when 'B' then interval '1 hour' else interval '1 minute' end`)
	require.NoError(t, err)
	for _, want := range []string{"B", "C", "A"} {
		due, err := b.in.claim(t.Context(), 1)
		require.NoError(t, err)
		require.Len(t, due, 1)
		require.Equal(t, want, string(due[0].Key))
	}
}

// Old bodies are deleted, a few at a time and the oldest first. The rows and newer bodies stay.
func TestRetentionDropsOnlyBodies(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	_, err := b.pool.Exec(t.Context(), `
		insert into raw_responses (id, provider, symbol, status, body, received_at)
		select gen_random_uuid(), 'fake', 'S' || i, 200, 'body', now() - i * interval '1 hour' from generate_series(1, 10) i`)
	require.NoError(t, err)
	kept := func() (names []string) {
		rows, err := b.pool.Query(t.Context(), "select symbol from raw_responses where body is not null order by received_at desc")
		require.NoError(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	for _, want := range []struct {
		dropped int64
		left    []string
	}{
		{3, []string{"S1", "S2", "S3", "S4", "S5", "S6", "S7"}}, {2, []string{"S1", "S2", "S3", "S4", "S5"}}, {0, []string{"S1", "S2", "S3", "S4", "S5"}},
	} {
		n, err := b.in.DropBodies(t.Context(), 5*time.Hour+time.Minute, 3)
		require.NoError(t, err)
		require.Equal(t, want.dropped, n)
		require.Equal(t, want.left, kept())
	}
	require.Equal(t, 10, b.count(t, "raw_responses"))
}

// Deletes do not scan the rows that were deleted since the table was last analyzed.
func TestDeletesUseTheIndex(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	_, err := b.pool.Exec(t.Context(), "analyze outbox") // while it is empty
	require.NoError(t, err)
	for range 20 {
		var ids []int64
		rows, err := b.pool.Query(t.Context(), "insert into outbox (topic, key, value, headers) select 't', 'k', 'v', '{}' from generate_series(1, 100) returning id")
		require.NoError(t, err)
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		require.NoError(t, err)
		_, err = b.in.deleteAll(t.Context(), ids)
		require.NoError(t, err)
	}
	var left int
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(*) from outbox").Scan(&left))
	require.Zero(t, left)
	var scans, byIndex int
	require.Eventually(t, func() bool { // counts are flushed a moment later
		_, err := b.pool.Exec(t.Context(), "select pg_stat_clear_snapshot()")
		require.NoError(t, err)
		require.NoError(t, b.pool.QueryRow(t.Context(), "select seq_tup_read, idx_scan from pg_stat_user_tables where relname = 'outbox'").Scan(&scans, &byIndex))
		return byIndex >= 20
	}, 30*time.Second, 100*time.Millisecond)
	require.Zero(t, scans)
}

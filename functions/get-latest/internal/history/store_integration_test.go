//go:build integration

package history

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/testenv"
	"marketdata/shared/timerange"
)

// withoutIndexes returns a pool whose queries read tables in the order in which rows were inserted: an index must not hide that a query
// lacks an order.
func withoutIndexes(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	for _, scan := range []string{"enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"} {
		config.ConnConfig.RuntimeParams[scan] = "off"
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestHistoryReadsPricePoints(t *testing.T) {
	t.Parallel()
	pool := withoutIndexes(t, testenv.Postgres(t))
	store := &pgPoints{pool}
	at := func(s int) time.Time { return time.Date(2024, 3, 20, 10, 30, s, 123456000, time.UTC) }
	prices := []string{"1", "0.000000000000000001", "12345678901234567890.123456789012345678", "4", "5"}
	for _, s := range []int{3, 0, 4, 2, 1} {
		_, err := pool.Exec(t.Context(), `
			insert into price_points (symbol, provider, observed_at, price, raw_response_id)
			values ('AAPL', 'yfinance', $1, $2::numeric, $3), ('AAPL', 'finnhub', $1, 9, $3), ('AAP', 'yfinance', $1, 9, $3)`, at(s), prices[s], rawID)
		require.NoError(t, err)
	}
	open, err := timerange.Parse("", "")
	require.NoError(t, err)
	q := span{symbol: "AAPL", provider: "yfinance", Range: timerange.Range{From: at(1), To: at(4)}}
	got, err := store.read(t.Context(), q, 10)
	require.NoError(t, err)
	require.Len(t, got, 3, "start is inclusive, end is exclusive, no other series is included")
	require.Equal(t, "0.000000000000000001", got[0].Price.String())
	require.Equal(t, "12345678901234567890.123456789012345678", got[1].Price.String())
	require.Equal(t, at(3), got[2].ObservedAt.UTC())
	require.Equal(t, rawID, got[2].RawResponseID)
	q.descending = true
	got, err = store.read(t.Context(), q, 10)
	require.NoError(t, err)
	require.Len(t, got, 3, "the same in the other direction")
	require.Equal(t, at(1), got[2].ObservedAt.UTC())
	q.Range = open
	got, err = store.read(t.Context(), q, 2)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, at(4), got[0].ObservedAt.UTC())
	require.Equal(t, at(3), got[1].ObservedAt.UTC())
	_, err = pool.Exec(t.Context(), "alter table price_points rename to away")
	require.NoError(t, err)
	_, err = store.read(t.Context(), q, 2)
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
}

// A page costs the same however long the series is: the plan scans the primary key, with and without statistics.
func TestHistoryScansTheIndex(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	open, err := timerange.Parse("", "")
	require.NoError(t, err)
	plan := func(query string) string {
		rows, err := pool.Query(t.Context(), "explain "+query, "AAPL", "yfinance", open.From, open.To, 1001)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return strings.Join(lines, "\n")
	}
	check := func() {
		for query, scan := range map[string]string{ascendingQuery: "Index Scan using price_points_pk", descendingQuery: "Index Scan Backward using price_points_pk"} {
			p := plan(query)
			require.Contains(t, p, scan)
			require.NotContains(t, p, "Sort")
		}
	}
	check()
	_, err = pool.Exec(t.Context(), `
		insert into price_points (symbol, provider, observed_at, price, raw_response_id)
		select 'AAPL', 'yfinance', '2024-01-01'::timestamptz + i * interval '1 second', i, gen_random_uuid() from generate_series(1, 50000) i`)
	require.NoError(t, err)
	check()
	_, err = pool.Exec(t.Context(), "analyze price_points")
	require.NoError(t, err)
	check()
}

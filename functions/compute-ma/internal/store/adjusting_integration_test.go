//go:build integration

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/testenv"
)

// A series is adjusting while poll says so, and then while a point of the range is from a response before the split.
func TestAdjusting(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	exec := func(q string, args ...any) {
		t.Helper()
		_, err := pool.Exec(t.Context(), q, args...)
		require.NoError(t, err)
	}
	id := func(n int) string { return fmt.Sprintf("0190f5d8-0000-7000-8000-%012d", n) }
	for i := range 10 {
		exec("insert into price_points (symbol, provider, observed_at, price, raw_response_id) values ('A', 'p-1d', $1, 1, $2::uuid)",
			time.Unix(int64(i), 0), id(i))
	}
	r := NewReader(pool)
	k := series.Key{Symbol: "A", Provider: "p-1d"}
	adjusting := func(first, last int) bool {
		t.Helper()
		v, err := r.Adjusting(t.Context(), k, int64(first)*1e6, int64(last)*1e6)
		require.NoError(t, err)
		return v
	}
	exec("insert into bar_series (symbol, provider, since, adjusting) values ('A', 'a-1d', $1::uuid, true), ('0', 'p-1d', $1::uuid, true)", id(9)) // others
	require.False(t, adjusting(0, 9), "poll does not know it")
	exec("insert into bar_series (symbol, provider) values ('A', 'p-1d')")
	require.False(t, adjusting(0, 9), "no split was seen")
	exec("update bar_series set since = $1::uuid, adjusting = true where symbol = 'A' and provider = 'p-1d'", id(5))
	require.True(t, adjusting(7, 9))
	exec("update bar_series set adjusting = false where symbol = 'A' and provider = 'p-1d'")
	require.False(t, adjusting(5, 9))
	require.True(t, adjusting(4, 9), "a point that its new response has not reached")

	// What is read in a snapshot is of one instant.
	require.NoError(t, r.Snapshot(t.Context(), func(frozen *Reader) error {
		before, err := frozen.Points(t.Context(), k, everything, 10)
		require.NoError(t, err)
		require.Len(t, before, 10)
		exec("update price_points set raw_response_id = $1::uuid, price = 2", id(9))
		v, err := frozen.Adjusting(t.Context(), k, 0, 9e6)
		require.NoError(t, err)
		require.True(t, v)
		after, err := frozen.PointsBefore(t.Context(), k, everything, 10)
		require.NoError(t, err)
		require.Equal(t, before, after)
		return frozen.Snapshot(t.Context(), func(same *Reader) error {
			require.Equal(t, frozen, same)
			return nil
		})
	}))
	require.False(t, adjusting(0, 9))
}

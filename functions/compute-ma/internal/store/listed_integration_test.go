//go:build integration

package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// The pages of the list have each series with a point once, with the state that the stream sends.
func TestSeriesInPages(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{2, 5})
	reads, prices := NewReader(s.pool), model.Prices(t, "1", "3")
	exec := func(q string, args ...any) {
		t.Helper()
		_, err := s.pool.Exec(t.Context(), q, args...)
		require.NoError(t, err)
	}
	var keys []series.Key
	for _, symbol := range []string{"A", "B-1", "B.1", "C"} {
		keys = append(keys, series.Key{Symbol: symbol, Provider: "p"})
		for i, price := range prices {
			_, err := s.Apply(t.Context(), []priceevent.Observation{model.Observation(symbol, model.Instant.Add(time.Duration(i)*time.Second), price)})
			require.NoError(t, err)
		}
	}
	exec("insert into price_series (symbol, provider) values ('BARE', 'p')") // no point yet
	exec("update price_series set newest = null where symbol = 'A'")         // the price is read from the points
	pages := 0
	read := func(limit int) (all []Listed) {
		t.Helper()
		pages = 0
		for after, more := (series.Key{}), true; more; pages++ {
			var page []Listed
			var err error
			page, after, more, err = reads.Series(t.Context(), after, limit)
			require.NoError(t, err)
			all = append(all, page...)
		}
		return all
	}
	want, err := reads.States(t.Context(), keys, make([]string, len(keys)))
	require.NoError(t, err)
	require.Len(t, want, len(keys))
	for _, limit := range []int{1, 3, 4, 100} {
		all := read(limit)
		require.Len(t, all, len(want), limit)
		require.Equal(t, (len(want)+limit-1)/limit, pages, limit)
		for i, l := range all {
			require.Equal(t, Listed{State: want[i]}, l, limit)
		}
	}
	none, _, more, err := reads.Series(t.Context(), series.Key{Symbol: "D"}, 1)
	require.NoError(t, err)
	require.Empty(t, none, "nothing follows the last one")
	require.False(t, more)
	exec("delete from price_points where symbol = 'A'")
	for _, l := range read(1) {
		require.NotEqual(t, "A", l.Symbol, "never a zero price; its page is empty, and the next one follows")
	}
	require.Len(t, read(1), len(want)-1)

	exec("insert into bar_series (symbol, provider, since, adjusting) values ('C', 'p', '00000000-0000-0000-0000-000000000000', true)")
	require.True(t, read(4)[2].Adjusting)
	exec("update bar_series set adjusting = false")
	require.False(t, read(4)[2].Adjusting, "all points are of this generation")
	exec("update bar_series set since = (select raw_response_id from price_points where symbol = 'C' order by raw_response_id limit 1)")
	require.False(t, read(4)[2].Adjusting, "which begins with one of them")
	exec("update bar_series set since = 'ffffffff-0000-0000-0000-000000000000'")
	require.True(t, read(4)[2].Adjusting, "points are from before the split")
}

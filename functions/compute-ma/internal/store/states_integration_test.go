//go:build integration

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// A state is read once for each change, whatever its time says, with what the other queries answer.
func TestStatesThatChanged(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{2, 5})
	reads, prices := NewReader(s.pool), model.Prices(t, "1", "2.5", "4")
	apply := func(symbol string, second, price int) {
		o := model.Observation(symbol, model.Instant.Add(time.Duration(second)*time.Second), prices[price])
		_, err := s.Apply(t.Context(), []priceevent.Observation{o})
		require.NoError(t, err)
	}
	keys := []series.Key{{Symbol: "B", Provider: "p"}, {Symbol: "NONE", Provider: "p"}, {Symbol: "A", Provider: "p"}}
	versions := make([]string, len(keys))
	read := func() (changed []string) {
		states, err := reads.States(t.Context(), keys, versions)
		require.NoError(t, err)
		for _, state := range states {
			for i, k := range keys {
				if k == state.Key {
					versions[i] = state.Version
				}
			}
			line := fmt.Sprint(state.Symbol, " ", state.Price)
			for _, a := range state.Averages {
				stored, err := reads.LatestAverage(t.Context(), state.Key, a.Window)
				require.NoError(t, err)
				require.Equal(t, stored, a)
				require.Equal(t, stored.AsOf, state.AsOf)
				line += fmt.Sprint(" ", a.Mean)
			}
			changed = append(changed, line)
		}
		return changed
	}
	require.Empty(t, read())
	apply("A", 10, 0)
	apply("B", 10, 1)
	require.Equal(t, []string{"B 2.5 2.5 2.5", "A 1 1 1"}, read())
	require.Empty(t, read())
	apply("A", 20, 2)
	require.Equal(t, []string{"A 4 2.5 2.5"}, read())
	apply("A", 5, 1) // late: neither the price nor the time of the newest point changes
	require.Equal(t, []string{"A 4 2.5 2.5"}, read())

	// Transaction 1 begins first and commits last.
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	_, err = tx.Exec(t.Context(), "update price_series set updated_at = now() where symbol = 'B'")
	require.NoError(t, err)
	apply("A", 30, 0)
	require.Equal(t, []string{"A 1 2.5 2.125"}, read())
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, []string{"B 2.5 2.5 2.5"}, read())

	// A row that does not hold its newest points, see the README on rebuilding.
	for _, damaged := range []string{"null", `'\x01'`, `'\xff'`} {
		_, err = s.pool.Exec(t.Context(), "update price_series set newest = "+damaged+" where symbol = 'A'")
		require.NoError(t, err)
		require.Equal(t, []string{"A 1 2.5 2.125"}, read())
	}
	_, err = s.pool.Exec(t.Context(), "delete from price_points where symbol = 'A'; update price_series set newest = null where symbol = 'A'")
	require.NoError(t, err)
	require.Empty(t, read(), "never a zero price")
	_, err = s.pool.Exec(t.Context(), "insert into price_series (symbol, provider) values ('NONE', 'p')")
	require.NoError(t, err)
	require.Empty(t, read(), "no point yet")
}

//go:build integration

package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

func observed(t *testing.T, symbol string, second int64) priceevent.Observation {
	t.Helper()
	return model.Observation(symbol, time.Unix(second, 0), model.Prices(t, "5")[0])
}

// Whoever holds the row of a series stops that series alone.
func TestAHeldSeriesFailsNoNeighbour(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	s := New(pool, []int{5})
	a := NewBatcher(s, func(int, time.Duration) {})
	defer a.Close()
	_, err := a.Commit(t.Context(), observed(t, "HELD", 1))
	require.NoError(t, err)

	holder, err := pool.Begin(t.Context()) // an operator's session: it has no limits
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), "select from price_series where symbol = 'HELD' for update")
	require.NoError(t, err)
	for round := range int64(3) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				did, err := a.Commit(context.Background(), observed(t, fmt.Sprint("FREE", i), 10+round))
				if err != nil || did.Outcome != Inserted {
					t.Errorf("a neighbour: %+v, %v", did, err)
				}
			})
			wg.Go(func() {
				_, err := a.Commit(context.Background(), observed(t, "HELD", 10+int64(i)))
				if f, ok := fault.As(err); !ok || f.Code != "storage_unavailable" || f.Kind != fault.Unavailable {
					t.Errorf("the held one: %v", err)
				}
			})
		}
		wg.Wait()
	}
	require.NoError(t, holder.Rollback(t.Context()))
	require.Eventually(t, func() bool {
		did, err := a.Commit(t.Context(), observed(t, "HELD", 10))
		return err == nil && did.Outcome == Inserted
	}, time.Minute, 50*time.Millisecond, "and goes on when it is let go")
}

// Queries that hang end in time and take no connection from events.
func TestQueriesThatHangLeaveEventsAlone(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	pool, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	reads, err := postgres.OpenSmall(url, ReadConnections)
	require.NoError(t, err)
	t.Cleanup(reads.Close)
	locked, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = locked.Exec(t.Context(), "lock table price_points in access exclusive mode")
	require.NoError(t, err)

	began := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), ReadTimeout)
			defer cancel()
			_, err := NewReader(reads).Points(ctx, series.Key{Symbol: "S", Provider: "p"}, everything, 10)
			if fault.CodeOf(err) != "storage_unavailable" {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool { // they hang
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'").Scan(&n))
		return n == ReadConnections
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, pool.Ping(t.Context()))
	wg.Wait()
	require.Less(t, time.Since(began), 6*ReadTimeout, "whatever else this machine does")
	require.NoError(t, locked.Rollback(t.Context()))
	_, err = NewReader(reads).Points(t.Context(), series.Key{Symbol: "S", Provider: "p"}, everything, 10)
	require.NoError(t, err)
}

// An error of a read is one, also where there would be nothing to return.
func TestReadsThatFail(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	reads, k := NewReader(pool), series.Key{Symbol: "S", Provider: "p"}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	all := map[string]func(ctx context.Context) error{
		"points":        func(ctx context.Context) error { _, err := reads.Points(ctx, k, everything, 1); return err },
		"points before": func(ctx context.Context) error { _, err := reads.PointsBefore(ctx, k, everything, 1); return err },
		"stored":        func(ctx context.Context) error { _, err := reads.LatestAverage(ctx, k, 5); return err },
		"computed":      func(ctx context.Context) error { _, err := reads.ComputeAverage(ctx, k, 7); return err },
		"states": func(ctx context.Context) error {
			_, err := reads.States(ctx, []series.Key{k}, []string{""})
			return err
		},
		"series":    func(ctx context.Context) error { _, _, _, err := reads.Series(ctx, series.Key{}, 1); return err },
		"adjusting": func(ctx context.Context) error { _, err := reads.Adjusting(ctx, k, 0, 1); return err },
	}
	for name, read := range all {
		require.Equal(t, fault.Unavailable, fault.KindOf(read(over)), name)
	}
	delete(all, "adjusting") // reads no price
	_, err := New(pool, []int{5}).Apply(t.Context(), []priceevent.Observation{observed(t, "S", 1)})
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "update price_series set averages = '{NaN}'; update price_points set price = 'NaN'")
	require.NoError(t, err)
	for name, read := range all {
		require.Error(t, read(t.Context()), name)
	}
	_, err = pool.Exec(t.Context(), "update price_series set averages = '{5}', newest = null; alter table price_points rename column price to cost")
	require.NoError(t, err)
	require.Error(t, all["states"](t.Context()), "the price is read from the points")
	require.Error(t, all["series"](t.Context()))
	_, err = reads.ComputeAverage(t.Context(), k, 7)
	require.Error(t, err)
	require.NotEqual(t, fault.CodeAverageNotFound, fault.CodeOf(err))
}

// Reads work in every mode in which pgx can send them.
func TestPointsAreReadInEveryMode(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	pool, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s := New(pool, []int{5})
	for i := range int64(10) {
		_, err := s.Apply(t.Context(), []priceevent.Observation{observed(t, "S", i)})
		require.NoError(t, err)
	}
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		reads, err := postgres.OpenSmall(url+"&default_query_exec_mode="+mode, 1)
		require.NoError(t, err)
		t.Cleanup(reads.Close)
		for range 8 { // a generic plan comes with the sixth
			points, err := NewReader(reads).PointsBefore(t.Context(), series.Key{Symbol: "S", Provider: "p"}, everything, 3)
			require.NoError(t, err, mode)
			require.Len(t, points, 3)
			require.EqualValues(t, 7_000_000, points[0].At)
			a, err := NewReader(reads).LatestAverage(t.Context(), series.Key{Symbol: "S", Provider: "p"}, 5)
			require.NoError(t, err)
			require.Equal(t, 5, a.PointsUsed)
		}
		_, err = NewReader(reads).Points(t.Context(), series.Key{Symbol: strings.Repeat("S", 3) + "\x00", Provider: "p"}, everything, 3)
		require.Error(t, err, "and errors are errors")
		_, err = NewReader(reads).Points(t.Context(), series.Key{Symbol: "S", Provider: "p"}, everything, 3)
		require.NoError(t, err, "which do not spoil the connection")
	}
}

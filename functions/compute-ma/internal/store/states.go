package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// The version of a row is the transaction that wrote it. A time would not do: a transaction that commits late has an early one, and two
// may have the same. Limit 1 makes the planner look each key up in the index, however little it knows of the table.
const selectStates = `
	select k.n, s.version, s.newest, s.windows, s.averages, s.oldest, s.points, s.as_of
	from unnest($1::text[], $2::text[], $3::text[]) with ordinality as k (symbol, provider, version, n)
	cross join lateral (
		select p.xmin::text as version, p.newest, p.windows, p.averages, p.oldest, p.points, p.as_of
		from price_series p
		where p.symbol = k.symbol and p.provider = k.provider
		limit 1) s
	where s.version <> k.version and s.windows is not null`

// States reads the states of the series whose version is no longer the given one, in one query. versions go with keys; an empty one is
// always read. Series without a point are left out. Errors are faults.
func (s *Reader) States(ctx context.Context, keys []series.Key, versions []string) ([]series.State, error) {
	states, err := s.states(ctx, keys, versions)
	return states, postgres.Classify(err)
}

func (s *Reader) states(ctx context.Context, keys []series.Key, versions []string) ([]series.State, error) {
	symbols, providers := columns(keys)
	rows, err := indexed(s.pool).Query(ctx, selectStates, symbols, providers, versions)
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	var states []series.State
	var unknown []int // states whose row does not hold the newest points
	var n int64       // from 1
	var r struct {
		version  string
		newest   []byte
		windows  []int
		averages []market.Price
		oldest   []time.Time
		points   int
		asOf     time.Time
	}
	_, err = pgx.ForEachRow(rows, []any{&n, &r.version, &r.newest, &r.windows, &r.averages, &r.oldest, &r.points, &r.asOf}, func() error {
		state := series.State{Key: keys[n-1], Version: r.version, AsOf: r.asOf.UnixMicro()}
		for i, window := range r.windows {
			state.Averages = append(state.Averages, series.Average{
				Window: window, PointsUsed: min(window, r.points), Mean: series.NewValue(r.averages[i].Decimal()),
				AsOf: state.AsOf, Oldest: r.oldest[i].UnixMicro(),
			})
		}
		if newest, err := series.Decode(r.newest); err == nil && len(newest.Points) > 0 {
			state.Price = newest.Points[0].Price
		} else {
			unknown = append(unknown, len(states))
		}
		states = append(states, state)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	for _, i := range unknown {
		points, err := readPoints(ctx, indexed(s.pool), selectPointsDown, states[i].Key, series.Range{To: states[i].AsOf + 1}, 1)
		if err != nil {
			return nil, err
		}
		if len(points) > 0 {
			states[i].Price = points[0].Price
		}
	}
	return slices.DeleteFunc(states, func(s series.State) bool { return s.Price == series.Value{} }), nil // the points were deleted
}

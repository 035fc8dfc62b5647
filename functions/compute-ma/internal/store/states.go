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
	var n int64 // from 1
	var r stateRow
	_, err = pgx.ForEachRow(rows, append([]any{&n}, r.columns()...), func() error {
		states = append(states, r.state(keys[n-1]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read states: %w", err)
	}
	return s.priced(ctx, states)
}

// stateRow is a row of price_series.
type stateRow struct {
	version  string
	newest   []byte
	windows  []int
	averages []market.Price
	oldest   []time.Time
	points   int
	asOf     time.Time
}

func (r *stateRow) columns() []any {
	return []any{&r.version, &r.newest, &r.windows, &r.averages, &r.oldest, &r.points, &r.asOf}
}

// state returns the state of a series, without a price if the row does not hold its newest points.
func (r *stateRow) state(k series.Key) series.State {
	s := series.State{Key: k, Version: r.version, AsOf: r.asOf.UnixMicro()}
	for i, window := range r.windows {
		s.Averages = append(s.Averages, series.Average{
			Window: window, PointsUsed: min(window, r.points), Mean: series.NewValue(r.averages[i].Decimal()),
			AsOf: s.AsOf, Oldest: r.oldest[i].UnixMicro(),
		})
	}
	if newest, err := series.Decode(r.newest); err == nil && len(newest.Points) > 0 {
		s.Price = newest.Points[0].Price
	}
	return s
}

// priced reads the prices that states lack from the points, and leaves states out whose points were deleted.
func (s *Reader) priced(ctx context.Context, states []series.State) ([]series.State, error) {
	none := func(s series.State) bool { return s.Price == series.Value{} }
	for i, state := range states {
		if !none(state) {
			continue
		}
		points, err := readPoints(ctx, indexed(s.pool), selectPointsDown, state.Key, series.Range{To: state.AsOf + 1}, 1)
		if err != nil {
			return nil, err
		}
		if len(points) > 0 {
			states[i].Price = points[0].Price
		}
	}
	return slices.DeleteFunc(states, none), nil
}

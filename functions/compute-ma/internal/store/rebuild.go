package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
)

// Rebuild computes the newest points and the averages of every series from its points, and returns how many series there were: for
// use after a restore, after points were changed by hand, or to apply a new MA_WINDOWS without waiting for the next event of each
// series. The row of a series without points is deleted. It may run beside live replicas: each series is one transaction, under
// its own lock.
func (s *Store) Rebuild(ctx context.Context) (int, error) {
	if err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, postgres.ByIndex(0)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, adoptSeries)
		return err
	}); err != nil {
		return 0, fmt.Errorf("insert series: %w", err)
	}
	rows, err := s.pool.Query(ctx, "select symbol, provider from price_series")
	if err != nil {
		return 0, fmt.Errorf("list series: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[series.Key])
	if err != nil {
		return 0, fmt.Errorf("list series: %w", err)
	}
	for _, k := range all {
		w := work{series: []segment{{Key: k}}}
		if err := postgres.Retry(ctx, func() error { return s.rebuild(ctx, w) }); err != nil {
			return 0, fmt.Errorf("rebuild %s from %s: %w", k.Symbol, k.Provider, err)
		}
	}
	return len(all), nil
}

// rebuild is a commit of no observations that ignores what is stored of the series.
func (s *Store) rebuild(ctx context.Context, w work) error {
	return s.inTx(ctx, func(t tx) error {
		if _, _, err := t.begin(ctx, w); err != nil {
			return err
		}
		unknown := make([][]byte, len(w.series))
		states, err := t.states(ctx, w, unknown)
		if err != nil {
			return err
		}
		if len(states[0].newest.Points) == 0 {
			if _, err := t.conn.Exec(ctx, deleteSeries, w.series[0].Symbol, w.series[0].Provider); err != nil {
				return fmt.Errorf("delete series: %w", err)
			}
			return t.commit(ctx, nil)
		}
		_, changed := fold(w, nil, states, s.windows)
		return t.commit(ctx, changed)
	})
}

const deleteSeries = `delete from price_series where symbol = $1 and provider = $2`

// adoptSeries inserts the rows of series that have points and no row. It steps from series to series through the primary key,
// without reading all points.
const adoptSeries = `
	with recursive found as (
		(select symbol, provider from price_points order by symbol, provider limit 1)
		union all
		select next.symbol, next.provider
		from found
		cross join lateral (
			select symbol, provider
			from price_points p
			where (p.symbol, p.provider) > (found.symbol, found.provider)
			order by symbol, provider
			limit 1) next)
	insert into price_series (symbol, provider)
	select symbol, provider from found
	on conflict on constraint price_series_pk do nothing`

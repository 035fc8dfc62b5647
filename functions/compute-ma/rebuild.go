package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"marketdata/shared/postgres"
)

// rebuild computes the newest points and the averages of every series anew from its points: after a restore, after points
// were changed by hand, or for a new MA_WINDOWS without waiting for each series' next event. It may run beside live replicas:
// each series is one transaction under its own lock.
func rebuild(ctx context.Context, s *pgStore, log *slog.Logger) error {
	if err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, byIndexAll); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, adoptSeries)
		return err
	}); err != nil {
		return fmt.Errorf("make series: %w", err)
	}
	rows, err := s.pool.Query(ctx, "select symbol, provider from price_series")
	if err != nil {
		return fmt.Errorf("list series: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k seriesKey, err error) {
		err = row.Scan(&k.symbol, &k.provider)
		return k, err
	})
	if err != nil {
		return fmt.Errorf("list series: %w", err)
	}
	for _, k := range all {
		b := &batch{series: []seriesKey{k}, rebuild: true}
		if err := postgres.Retry(ctx, func() error { return s.run(ctx, b, "commit") }); err != nil {
			return fmt.Errorf("rebuild %s from %s: %w", k.symbol, k.provider, err)
		}
	}
	log.InfoContext(ctx, "averages are rebuilt", "series", len(all))
	return nil
}

// byIndexAll goes before a statement that may take long.
var byIndexAll = postgres.ByIndex(0)

// adoptSeries makes the rows of series that have points and no row. It steps from series to series through the primary
// key, without reading all points.
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

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
)

// pgStore owns price_points, price_series and symbol_averages.
type pgStore struct {
	pool    *pgxpool.Pool
	windows []int
}

// effect is what an event did to its point.
type effect string

const (
	inserted  effect = "inserted"  // a new point
	corrected effect = "corrected" // replaced the point's price by one of greater rank
	duplicate effect = "duplicate" // the point already has this rank or a greater one
)

// apply writes one observation and its series' averages in one READ COMMITTED transaction. Statements, in this order:
// the point; the series' row, made if absent and locked; the newest points; the averages. Under the lock the read sees
// every committed point of the series, so the last writer always writes the right averages. Idempotency key: (symbol,
// provider, observed_at) with the rank. Errors as [postgres.Classify]; deadlocks are retried inside.
func (s *pgStore) apply(ctx context.Context, o priceevent.Observation) (effect, error) {
	var did effect
	err := postgres.Retry(ctx, func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			var err error
			did, err = s.applyTx(ctx, tx, o)
			return err
		})
	})
	if err != nil {
		return "", postgres.Classify(err)
	}
	return did, nil
}

func (s *pgStore) applyTx(ctx context.Context, tx pgx.Tx, o priceevent.Observation) (effect, error) {
	did, err := upsertPoint(ctx, tx, o)
	if err != nil || did == duplicate {
		return did, err // a duplicate's averages were committed together with its point
	}
	if err := lockSeries(ctx, tx, o.Symbol, o.Provider); err != nil {
		return "", err
	}
	points, err := newest(ctx, tx, o.Symbol, o.Provider, maxWindow)
	if err != nil {
		return "", err
	}
	return did, s.upsertAverages(ctx, tx, o.Symbol, o.Provider, averages(points, s.windows))
}

func upsertPoint(ctx context.Context, tx pgx.Tx, o priceevent.Observation) (effect, error) {
	const q = `
		insert into price_points as p (symbol, provider, observed_at, price, raw_response_id, correction)
		values ($1, $2, $3, $4, $5, $6)
		on conflict on constraint price_points_pk do update
		set price = excluded.price, raw_response_id = excluded.raw_response_id, correction = excluded.correction,
		    received_at = now()
		where (excluded.correction, excluded.raw_response_id, excluded.price) > (p.correction, p.raw_response_id, p.price)
		returning xmax = 0`
	var isNew bool
	rows, err := tx.Query(ctx, q, o.Symbol, o.Provider, o.ObservedAt, o.Price, o.RawResponseID, o.Correction)
	if err != nil {
		return "", fmt.Errorf("upsert point: %w", err)
	}
	changed := false
	for rows.Next() {
		changed = true
		if err := rows.Scan(&isNew); err != nil {
			return "", fmt.Errorf("upsert point: %w", err)
		}
	}
	switch err := rows.Err(); {
	case err != nil:
		return "", fmt.Errorf("upsert point: %w", err)
	case !changed:
		return duplicate, nil
	case isNew:
		return inserted, nil
	}
	return corrected, nil
}

// lockSeries makes the series' row if absent and locks it until the transaction ends.
func lockSeries(ctx context.Context, tx pgx.Tx, symbol market.Symbol, provider string) error {
	if _, err := tx.Exec(ctx, `
		insert into price_series (symbol, provider) values ($1, $2)
		on conflict on constraint price_series_pk do nothing`, symbol, provider); err != nil {
		return fmt.Errorf("make series: %w", err)
	}
	if _, err := tx.Exec(ctx, `
		select 1 from price_series where symbol = $1 and provider = $2 for update`, symbol, provider); err != nil {
		return fmt.Errorf("lock series: %w", err)
	}
	return nil
}

func newest(ctx context.Context, tx pgx.Tx, symbol market.Symbol, provider string, n int) ([]point, error) {
	rows, err := tx.Query(ctx, `
		select observed_at, price
		from price_points
		where symbol = $1 and provider = $2
		order by observed_at desc
		limit $3`, symbol, provider, n)
	if err != nil {
		return nil, fmt.Errorf("read newest points: %w", err)
	}
	points, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p point, err error) {
		err = row.Scan(&p.observedAt, &p.price)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read newest points: %w", err)
	}
	return points, nil
}

func (s *pgStore) upsertAverages(ctx context.Context, tx pgx.Tx, symbol market.Symbol, provider string, all []average) error {
	const q = `
		insert into symbol_averages (symbol, provider, window_size, average, points_used, complete, as_of, oldest)
		values ($1, $2, $3, $4, $5, $6, $7, $8)
		on conflict on constraint symbol_averages_pk do update
		set average = excluded.average, points_used = excluded.points_used, complete = excluded.complete,
		    as_of = excluded.as_of, oldest = excluded.oldest, updated_at = now()`
	var batch pgx.Batch
	for _, a := range all {
		batch.Queue(q, symbol, provider, a.window, a.mean, a.pointsUsed, a.pointsUsed == a.window, a.asOf, a.oldest)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("write averages: %w", err)
	}
	return nil
}

// latest is a stored average as it is read.
type latest struct {
	average
	complete  bool
	updatedAt time.Time
}

// latestAverage reads one average. NotFound with code "average_not_found" before the series' first point.
func (s *pgStore) latestAverage(ctx context.Context, symbol market.Symbol, provider string, window int) (latest, error) {
	const q = `
		select window_size, points_used, average, as_of, oldest, complete, updated_at
		from symbol_averages
		where symbol = $1 and provider = $2 and window_size = $3`
	var l latest
	err := s.pool.QueryRow(ctx, q, symbol, provider, window).
		Scan(&l.window, &l.pointsUsed, &l.mean, &l.asOf, &l.oldest, &l.complete, &l.updatedAt)
	err = postgres.Classify(err)
	if fault.KindOf(err) == fault.NotFound {
		return latest{}, fault.Wrap(err, fault.NotFound, "average_not_found", "no price of %s from %s has been seen yet", symbol, provider)
	}
	return l, err
}

var _ store = (*pgStore)(nil)

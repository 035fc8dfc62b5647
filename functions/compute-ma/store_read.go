package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const selectPointsDown = `
	select observed_at, price
	from price_points
	where symbol = $1 and provider = $2 and observed_at >= $3 and observed_at < $4
	order by observed_at desc
	limit $5`

const selectPointsUp = `
	select observed_at, price
	from price_points
	where symbol = $1 and provider = $2 and observed_at >= $3 and observed_at < $4
	order by observed_at
	limit $5`

// readNewest reads a series' newest points from the table of points.
func readNewest(ctx context.Context, db querier, k seriesKey) (series.Newest, error) {
	points, err := readPoints(ctx, db, selectPointsDown, k, everything, series.MaxPoints)
	return series.Newest{Points: points}, err
}

const (
	// readConnections are those of queries, apart from the events': however many queries wait, events and /readyz do not.
	readConnections = 4
	// readTimeout is for one query, its wait for a connection included.
	readTimeout = 5 * time.Second
)

// byIndex goes before a read of points.
var byIndex = postgres.ByIndex(readTimeout)

// pgReads answers queries, on connections of their own.
type pgReads struct{ pool batcher }

type batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// points reads a range, oldest first.
func (s *pgReads) points(ctx context.Context, k seriesKey, r timeRange, limit int) ([]series.Point, error) {
	points, err := readPoints(ctx, planned{s.pool}, selectPointsUp, k, r, limit)
	return points, postgres.Classify(err)
}

// pointsBefore reads the newest points of a range, oldest first.
func (s *pgReads) pointsBefore(ctx context.Context, k seriesKey, r timeRange, limit int) ([]series.Point, error) {
	points, err := readPoints(ctx, planned{s.pool}, selectPointsDown, k, r, limit)
	slices.Reverse(points)
	return points, postgres.Classify(err)
}

// planned sends each query behind [byIndex], in the same round trip: the two are one implicit transaction.
type planned struct{ db batcher }

// Query implements querier.
func (p planned) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	var b pgx.Batch
	b.Queue(byIndex)
	b.Queue(sql, args...)
	results := p.db.SendBatch(ctx, &b)
	if _, err := results.Exec(); err != nil {
		return nil, errors.Join(err, results.Close())
	}
	rows, err := results.Query()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	return batchRows{rows, results}, nil
}

// batchRows ends its batch with its last row.
type batchRows struct {
	pgx.Rows
	batch pgx.BatchResults
}

// Close ends the batch, too. Its error is that of the rows: they were the last.
func (r batchRows) Close() {
	r.Rows.Close()
	_ = r.batch.Close()
}

// everything is what a timestamptz of ours can be: points are never before 1970, and RFC 3339 ends with the year 9999.
var everything = timeRange{0, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()}

func readPoints(ctx context.Context, db querier, query string, k seriesKey, r timeRange, limit int) ([]series.Point, error) {
	from, to := time.UnixMicro(max(r.from, everything.from)), time.UnixMicro(min(r.to, everything.to))
	rows, err := db.Query(ctx, query, k.symbol, k.provider, from, to, limit)
	if err != nil {
		return nil, fmt.Errorf("read points: %w", err)
	}
	var at time.Time
	var price market.Price
	points := []series.Point{}
	_, err = pgx.ForEachRow(rows, []any{&at, &price}, func() error {
		points = append(points, series.Point{At: at.UnixMicro(), Price: series.NewValue(price.Decimal())})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read points: %w", err)
	}
	return points, nil
}

// latestAverage reads one average. NotFound with code "average_not_found" before the series' first point.
func (s *pgReads) latestAverage(ctx context.Context, k seriesKey, window int) (series.Average, error) {
	const q = `
		select points_used, average, as_of, oldest
		from symbol_averages
		where symbol = $1 and provider = $2 and window_size = $3`
	a := series.Average{Window: window}
	var mean market.Price
	var asOf, oldest time.Time
	err := postgres.Classify(s.pool.QueryRow(ctx, q, k.symbol, k.provider, window).Scan(&a.PointsUsed, &mean, &asOf, &oldest))
	if fault.KindOf(err) == fault.NotFound {
		return a, fault.Wrap(err, fault.NotFound, "average_not_found", "no price of %s from %s has been seen yet", k.symbol, k.provider)
	}
	if err != nil {
		return a, err
	}
	a.Mean, a.AsOf, a.Oldest = series.NewValue(mean.Decimal()), asOf.UnixMicro(), oldest.UnixMicro()
	return a, nil
}

var _ reader = (*pgReads)(nil)

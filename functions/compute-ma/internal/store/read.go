package store

import (
	"context"
	"fmt"
	"math"
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

// readNewest reads the newest points of a series from the table of points.
func readNewest(ctx context.Context, db querier, k series.Key) (series.Newest, error) {
	points, err := readPoints(ctx, db, selectPointsDown, k, everything, series.MaxPoints)
	return series.Newest{Points: points}, err
}

const (
	// ReadConnections is how many connections queries have, apart from those of events: queries that wait never keep events or
	// /readyz waiting.
	ReadConnections = 4
	// ReadTimeout is for one query, including its wait for a connection.
	ReadTimeout = 5 * time.Second
)

// indexed returns what reads points in the order of their index.
func indexed(db postgres.Batcher) postgres.Indexed { return postgres.NewIndexed(db, ReadTimeout) }

// Reader answers queries. Safe for concurrent use.
type Reader struct{ pool Pool }

// NewReader returns a Reader on a pool of its own, of [ReadConnections].
func NewReader(pool Pool) *Reader { return &Reader{pool} }

// Pool is the subset of a pool that a Reader needs.
type Pool interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Points reads the oldest points of a range, at most limit, oldest first. Errors are faults.
func (s *Reader) Points(ctx context.Context, k series.Key, r series.Range, limit int) ([]series.Point, error) {
	points, err := readPoints(ctx, indexed(s.pool), selectPointsUp, k, r, limit)
	return points, postgres.Classify(err)
}

// PointsBefore reads the newest points of a range, at most limit, oldest first. Errors are faults.
func (s *Reader) PointsBefore(ctx context.Context, k series.Key, r series.Range, limit int) ([]series.Point, error) {
	points, err := readPoints(ctx, indexed(s.pool), selectPointsDown, k, r, limit)
	slices.Reverse(points)
	return points, postgres.Classify(err)
}

// everything is the range of all points: none is before 1970.
var everything = series.Range{To: math.MaxInt64}

func readPoints(ctx context.Context, db querier, query string, k series.Key, r series.Range, limit int) ([]series.Point, error) {
	from := max(r.From, 0) // Postgres' times do not begin as early as ours
	rows, err := db.Query(ctx, query, k.Symbol, k.Provider, time.UnixMicro(from), time.UnixMicro(r.To), limit)
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

// LatestAverage reads the newest average of a series. Before its first point the error is NotFound with code "average_not_found".
func (s *Reader) LatestAverage(ctx context.Context, k series.Key, window int) (series.Average, error) {
	const q = `
		select points_used, average, as_of, oldest
		from symbol_averages
		where symbol = $1 and provider = $2 and window_size = $3`
	a := series.Average{Window: window}
	var mean market.Price
	var asOf, oldest time.Time
	if err := s.pool.QueryRow(ctx, q, k.Symbol, k.Provider, window).Scan(&a.PointsUsed, &mean, &asOf, &oldest); err != nil {
		return a, postgres.ClassifyOne(err, noPoint(k))
	}
	a.Mean, a.AsOf, a.Oldest = series.NewValue(mean.Decimal()), asOf.UnixMicro(), oldest.UnixMicro()
	return a, nil
}

// ComputeAverage is [Reader.LatestAverage] for a window that is not stored: it computes the average from the newest points.
func (s *Reader) ComputeAverage(ctx context.Context, k series.Key, window int) (series.Average, error) {
	points, err := readPoints(ctx, indexed(s.pool), selectPointsDown, k, everything, window)
	if err != nil {
		return series.Average{}, postgres.Classify(err)
	}
	if len(points) == 0 {
		return series.Average{}, noPoint(k)
	}
	return series.Newest{Points: points}.Averages([]int{window})[0], nil
}

func noPoint(k series.Key) *fault.Error {
	return fault.New(fault.NotFound, fault.CodeAverageNotFound, "no price of %s from %s has been seen yet", k.Symbol, k.Provider)
}

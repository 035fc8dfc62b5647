package history

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// readWait is the timeout of one query.
const readWait = 5 * time.Second

// pgPoints reads price_points, which compute-ma writes.
type pgPoints struct {
	pool postgres.DB
}

type point struct {
	ObservedAt    time.Time
	Price         market.Price
	RawResponseID uuid.UUID
}

// Both queries scan the primary key, so a page costs the same however long the series is.
const (
	ascendingQuery = `
		select observed_at, price, raw_response_id
		from price_points
		where symbol = $1 and provider = $2 and observed_at >= $3 and observed_at < $4
		order by observed_at
		limit $5`
	descendingQuery = `
		select observed_at, price, raw_response_id
		from price_points
		where symbol = $1 and provider = $2 and observed_at >= $3 and observed_at < $4
		order by observed_at desc
		limit $5`
)

// read returns up to limit points of a span, in its order. Errors are Unavailable.
func (s *pgPoints) read(ctx context.Context, q span, limit int) ([]point, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	query := ascendingQuery
	if q.descending {
		query = descendingQuery
	}
	rows, err := s.pool.Query(ctx, query, q.symbol, q.provider, q.From, q.To, limit)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("read history: %w", err))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[point])
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("read history: %w", err))
	}
	return found, nil
}

package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
)

// Snapshot calls f with a Reader all of whose reads see the same state of the database. Errors of f are returned unchanged.
func (s *Reader) Snapshot(ctx context.Context, f func(*Reader) error) error {
	db, ok := s.pool.(postgres.TxBeginner)
	if !ok { // already in one
		return f(s)
	}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return postgres.Classify(pgx.BeginTxFunc(ctx, db, options, func(tx pgx.Tx) error { return f(&Reader{tx}) }))
}

// Adjusting reports whether the history of a series of bars is being fetched again after a split (poll writes bar_series), or one of its
// points from one instant to another is from before the split, since its response is. Errors are faults.
func (s *Reader) Adjusting(ctx context.Context, k series.Key, from, to int64) (bool, error) {
	const q = `
		select b.adjusting or exists (
			select from price_points p
			where p.symbol = b.symbol and p.provider = b.provider and p.observed_at between $3 and $4 and p.raw_response_id < b.since)
		from bar_series b
		where b.symbol = $1 and b.provider = $2 and b.since is not null`
	rows, err := indexed(s.pool).Query(ctx, q, k.Symbol, k.Provider, time.UnixMicro(from), time.UnixMicro(to))
	if err != nil {
		return false, postgres.Classify(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return len(found) > 0 && found[0], postgres.Classify(err)
}

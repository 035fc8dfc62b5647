package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// Indexed sends each query behind [ByIndex], in the same round trip: the two are one implicit transaction.
type Indexed struct {
	db    Batcher
	first string
}

// Batcher sends batches: a pool, a connection or a [*Lazy].
type Batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// NewIndexed returns an Indexed. limit is the statement timeout; 0: none.
func NewIndexed(db Batcher, limit time.Duration) Indexed { return Indexed{db, ByIndex(limit)} }

// Query sends a query.
func (i Indexed) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	var b pgx.Batch
	b.Queue(i.first)
	b.Queue(sql, args...)
	results := i.db.SendBatch(ctx, &b)
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

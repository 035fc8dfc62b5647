// Package store keeps dead letters, their failures, their audit trail and bulk replays in Postgres. It has all SQL of the function.
//
// save.go stores what arrives, in four steps: which records are known, which are copies that a replay sent (copies.go), which letters
// are new (upsert.go), and one failure for each record (failures.go). read.go and list.go serve the operators. transition.go changes
// one letter under its lock. bulk.go creates and leases bulk replays, and claims.go takes, settles and counts their letters.
package store

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// Store owns the dead letter tables. Safe for concurrent use.
type Store struct{ pool *pgxpool.Pool }

var (
	_ replay.LetterStore = (*Store)(nil)
	_ replay.BulkStore   = (*Store)(nil)
)

// New returns a Store.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

var (
	errNoLetter = fault.New(fault.NotFound, fault.CodeMessageNotFound, "there is no such dead letter")
	errNoReplay = fault.New(fault.NotFound, fault.CodeReplayNotFound, "there is no such replay")
)

// place is a place in three columns, which are null if there is none.
type place struct {
	topic     *string
	partition *int32
	offset    *int64
}

func columnsOf(p *kafkaclient.Place) place {
	if p == nil {
		return place{}
	}
	return place{&p.Topic, &p.Partition, &p.Offset}
}

// get returns nil if a column is null.
func (p place) get() *kafkaclient.Place {
	if p.topic == nil || p.partition == nil || p.offset == nil {
		return nil
	}
	return &kafkaclient.Place{Topic: *p.topic, Partition: *p.partition, Offset: *p.offset}
}

// collect reads all rows of a query. Errors are classified.
func collect[T any](rows pgx.Rows, err error, scan pgx.RowToFunc[T]) ([]T, error) {
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scan)
	return all, postgres.Classify(err)
}

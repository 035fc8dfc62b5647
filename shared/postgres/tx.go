package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Limits of a transaction. A process that is stopped inside a transaction, or whose node is disconnected, holds its locks while
// its connection looks alive. The server ends such a transaction after idleInTx, and a statement that waits for a lock fails
// after lockWait. Both are set in each transaction: a pooler in transaction mode accepts no start-up parameters, and session
// settings would apply to the next user of the connection.
const (
	idleInTx = 5 * time.Second
	lockWait = 3 * time.Second
)

var beginGuarded = fmt.Sprintf("begin; set local lock_timeout = %d; set local idle_in_transaction_session_timeout = %d",
	lockWait.Milliseconds(), idleInTx.Milliseconds())

// InTx runs f in a READ COMMITTED transaction with limits on waiting for a lock (3 s) and on idling (5 s), and commits it. An
// error of f rolls it back. The transaction begins in one round trip.
func InTx(ctx context.Context, db TxBeginner, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: beginGuarded}, f)
}

// TxBeginner begins transactions: a pool, a connection or a [*Lazy].
type TxBeginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Guard returns a statement that sets the limits of [InTx] for the rest of the transaction, with another lockWait. It is for
// transactions that are sent as one batch.
func Guard(lockWait time.Duration) string {
	return fmt.Sprintf("select set_config('lock_timeout', '%d', true), set_config('idle_in_transaction_session_timeout', '%d', true)",
		lockWait.Milliseconds(), idleInTx.Milliseconds())
}

// ByIndex returns a statement that restricts the planner to index scans for the rest of the transaction. If a table was never
// analyzed, the planner may read and sort all of it instead. It is for queries whose rows an index returns in order. limit is the
// statement timeout, so that a query does not outlive its caller.
func ByIndex(limit time.Duration) string {
	return fmt.Sprintf("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"+
		" set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true), set_config('jit', 'off', true), set_config('statement_timeout', '%d', true)", limit.Milliseconds())
}

// IsLockTimeout reports whether a statement timed out waiting for a lock (SQLSTATE 55P03).
func IsLockTimeout(err error) bool { return code(err) == "55P03" }

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

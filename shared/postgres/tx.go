package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A process that is stopped inside a transaction, or whose node is cut off, holds its locks for as long as its connection
// looks alive. The server ends such a transaction after idleInTx; whoever meets a lock gives up after lockWait. Both are
// set in each transaction: a pooler in transaction mode takes no start-up parameters, and settings of a session would be
// those of its next user.
const (
	idleInTx = 5 * time.Second
	lockWait = 3 * time.Second
)

var beginGuarded = fmt.Sprintf("begin; set local lock_timeout = %d; set local idle_in_transaction_session_timeout = %d",
	lockWait.Milliseconds(), idleInTx.Milliseconds())

// InTx runs f in a READ COMMITTED transaction that neither waits for a lock nor idles for long, and commits it. An error
// of f rolls it back. Beginning is one round trip.
func InTx(ctx context.Context, db TxBeginner, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{BeginQuery: beginGuarded}, f)
}

// TxBeginner is what begins transactions: a pool, a connection or a [*Lazy].
type TxBeginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Guard gives a statement that sets the limits of [InTx] for the rest of the transaction, with another wait for locks.
// It is for transactions that are sent as one batch.
func Guard(lockWait time.Duration) string {
	return fmt.Sprintf("select set_config('lock_timeout', '%d', true), set_config('idle_in_transaction_session_timeout', '%d', true)",
		lockWait.Milliseconds(), idleInTx.Milliseconds())
}

// ByIndex is a statement that keeps the planner on index scans for the rest of the transaction: where a table was never
// analysed it may prefer to read and sort a whole history. It is for queries of which an index gives all rows in order.
// limit ends the query on the server, too, once its caller has given up.
func ByIndex(limit time.Duration) string {
	return fmt.Sprintf("select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"+
		" set_config('enable_sort', 'off', true), set_config('jit', 'off', true), set_config('statement_timeout', '%d', true)", limit.Milliseconds())
}

// IsLockTimeout reports that a statement gave up waiting for a lock (SQLSTATE 55P03).
func IsLockTimeout(err error) bool { return code(err) == "55P03" }

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

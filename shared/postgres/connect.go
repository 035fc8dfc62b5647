package postgres

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
)

// readOnly is the SQLSTATE of a write that the server refuses: it is a standby, or a primary that was demoted.
const readOnly = "25006"

// dropReadOnly closes a connection when its server refuses a write as read-only. After a failover the old primary may keep its
// sessions, while a new connection reaches the new primary.
func dropReadOnly(c *pgxpool.Config) {
	keep := c.ConnConfig.OnPgError
	c.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return keep(conn, err) && err.Code != readOnly
	}
}

// Ping checks that the database answers and can be written. A connection to a server that is read-only is closed, as in
// [dropReadOnly]. The error has the code read_only then.
func Ping(ctx context.Context, pool *pgxpool.Pool) error {
	return pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		var setting string
		if err := c.QueryRow(ctx, "select current_setting('transaction_read_only')").Scan(&setting); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		if setting == "on" {
			_ = c.Conn().Close(ctx) // the pool drops it
			return fault.New(fault.Unavailable, fault.CodeReadOnly, "the database is read-only")
		}
		return nil
	})
}

// prepares marks a connection that prepares statements.
const prepares = "prepares"

// suitPoolers lets a pool work behind a pooler in transaction mode, such as PgBouncer, where each transaction may have another
// session: connections to one use no prepared statements, which belong to a session. A pooler shows by the process ID that it sends
// when a client connects: it is not that of the session.
//
// All values of default_query_exec_mode that avoid prepared statements are taken for cache_describe, which asks the server for the types
// of parameters. The others would guess them, or use a statement after its transaction.
func suitPoolers(c *pgxpool.Config) {
	if c.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		return
	}
	var pooler atomic.Bool
	c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		if pooler.Load() {
			config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		return nil
	}
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
			return nil
		}
		conn.PgConn().CustomData()[prepares] = true
		var pid uint32
		if err := conn.QueryRow(ctx, "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
			return fmt.Errorf("look for a pooler: %w", err)
		}
		if pid != conn.PgConn().PID() {
			pooler.Store(true)
		}
		return nil
	}
	c.PrepareConn = func(_ context.Context, conn *pgx.Conn) (keep bool, err error) {
		return !pooler.Load() || conn.PgConn().CustomData()[prepares] == nil, nil
	}
}

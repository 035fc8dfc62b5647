// Package postgres opens the connection pool and classifies Postgres' errors. It contains no tables: the SQL is in each function,
// the schema in migrations/. Package migrate applies the schema, never a function at its start.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
)

// Open returns a pool. It does not connect: a function serves /healthz before its database answers. The error never contains the
// URL, which holds a password. The pool is safe for concurrent use.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	return pool, nil
}

func parse(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres connection string")
	}
	if config.ConnConfig.ConnectTimeout == 0 && !strings.Contains(url, "connect_timeout") {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.ConnConfig.DialFunc = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext
	config.ConnConfig.Tracer = tracer{}
	dropReadOnly(config)
	suitPoolers(config)
	return config, nil
}

// These apply to URLs without them. pgx has as many connections as the node has processors, so that one replica on a large node would
// take all that a small database has.
const (
	connectTimeout = 5 * time.Second
	maxConns       = 4
)

// keepAlive detects an unreachable server within half a minute. The kernel's default is two hours.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Retry runs f, and retries it after a serialization failure (40001) or a deadlock (40P01). f runs at most five times, and must
// begin a new transaction each time.
func Retry(ctx context.Context, f func() error) error {
	var err error
	for range 5 {
		err = f()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || (pg.Code != "40001" && pg.Code != "40P01") || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// Class returns the SQLSTATE class, the first two characters, of the Postgres error in err's chain; empty if there is none.
func Class(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		return pg.Code[:2]
	}
	return ""
}

// Classify turns an error of pgx into a fault (source: PostgreSQL documentation, appendix A "Error Codes"). Classes 22
// (data exception) and 23 (integrity constraint violation) are Invalid, since the same values would fail again; pgx.ErrNoRows is
// NotFound; a fault is returned unchanged; any other error is Unavailable: unknown means transient. nil stays nil.
func Classify(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Wrap(err, fault.NotFound, fault.CodeNotFound, "there is no such row")
	}
	if class := Class(err); class == "22" || class == "23" {
		return fault.Wrap(err, fault.Invalid, fault.CodeStorageRefused, "the database refuses the values")
	}
	return fault.Wrap(err, fault.Unavailable, fault.CodeStorageUnavailable, "the database does not answer").After(time.Second)
}

// ClassifyOne is [Classify] for a query for one thing. If there is no row, the error is missing, which says what does not exist.
func ClassifyOne(err error, missing *fault.Error) error {
	if err = Classify(err); fault.CodeOf(err) == fault.CodeNotFound {
		return missing
	}
	return err
}

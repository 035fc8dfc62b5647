package postgres

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/metric"
)

// DB is the subset of a pool that callers use without owning it: [*pgxpool.Pool] or [*Lazy].
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Lazy is a pool that is created at its first use: a replica that starts for a cached price does not need one, and creating it
// takes a fiftieth of the time to that response. Safe for concurrent use.
type Lazy struct {
	pool   func() *pgxpool.Pool
	opened atomic.Bool
	most   int32 // connections
}

// OpenLater validates url like Open, but does not create the pool yet.
func OpenLater(url string) (*Lazy, error) { return OpenSmall(url, 0) }

// OpenSmall is OpenLater with at most the given number of connections, which overrides url; 0 does not.
func OpenSmall(url string, connections int32) (*Lazy, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	if connections > 0 {
		config.MaxConns, config.MinConns, config.MinIdleConns = connections, 0, 0
	}
	l := &Lazy{most: config.MaxConns}
	l.pool = sync.OnceValue(func() *pgxpool.Pool {
		l.opened.Store(true)
		pool, err := pgxpool.NewWithConfig(context.Background(), config)
		if err != nil {
			panic(fmt.Errorf("create pool from a valid config: %w", err))
		}
		return pool
	})
	return l, nil
}

// Pool returns the pool, for callers that need more than [DB]. It creates the pool at once.
func (l *Lazy) Pool() *pgxpool.Pool { return l.pool() }

// Begin begins a transaction.
func (l *Lazy) Begin(ctx context.Context) (pgx.Tx, error) { return l.pool().Begin(ctx) }

// BeginTx begins a transaction with options.
func (l *Lazy) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	return l.pool().BeginTx(ctx, options)
}

// Exec runs a statement.
func (l *Lazy) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return l.pool().Exec(ctx, sql, args...)
}

// Query runs a query.
func (l *Lazy) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return l.pool().Query(ctx, sql, args...)
}

// QueryRow runs a query of one row; Scan returns its error.
func (l *Lazy) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return l.pool().QueryRow(ctx, sql, args...)
}

// SendBatch sends statements in one round trip.
func (l *Lazy) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return l.pool().SendBatch(ctx, b)
}

// Ping checks that the database answers and can be written, see [Ping].
func (l *Lazy) Ping(ctx context.Context) error { return Ping(ctx, l.pool()) }

var help = []metric.Help{
	{Name: "marketdata_postgres_connections", Text: "Connections of a pool by state: acquired or idle."},
	{Name: "marketdata_postgres_connections_max", Text: "Connections that a pool may have."},
	{Name: "marketdata_postgres_waits_total", Text: "Times that a caller waited for a connection of a pool."},
	{Name: "marketdata_postgres_wait_seconds_total", Text: "Time that callers waited for connections of a pool."},
}

// Observe adds the metrics of the pool to set, under the name that tells it from others of the process.
func (l *Lazy) Observe(set *metrics.Set, pool string) {
	metric.Describe(help)
	set.RegisterMetricsWriter(func(w io.Writer) {
		var acquired, idle int32
		var waits int64
		var waited time.Duration
		if l.opened.Load() {
			stat := l.pool().Stat()
			acquired, idle, waits, waited = stat.AcquiredConns(), stat.IdleConns(), stat.EmptyAcquireCount(), stat.EmptyAcquireWaitTime()
		}
		label := fmt.Sprintf("{pool=%q}", pool)
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("marketdata_postgres_connections{pool=%q,state=\"acquired\"}", pool), float64(acquired))
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("marketdata_postgres_connections{pool=%q,state=\"idle\"}", pool), float64(idle))
		metrics.WriteGaugeFloat64(w, "marketdata_postgres_connections_max"+label, float64(l.most))
		metrics.WriteCounterFloat64(w, "marketdata_postgres_waits_total"+label, float64(waits))
		metrics.WriteCounterFloat64(w, "marketdata_postgres_wait_seconds_total"+label, waited.Seconds())
	})
}

// Close waits for connections in use and closes the pool, if it was created. The pool must not be used afterwards.
func (l *Lazy) Close() {
	if l.opened.Load() {
		l.pool().Close()
	}
}

var (
	_ DB = (*pgxpool.Pool)(nil)
	_ DB = (*Lazy)(nil)

	_ TxBeginner = (*pgxpool.Pool)(nil)
	_ TxBeginner = (*Lazy)(nil)
)

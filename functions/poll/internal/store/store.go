// Package store is the polling tables in Postgres: all SQL of poll. It is the [schedule.Store], and reads and writes jobs for the API.
// Times and leases follow Postgres' clock, so the clocks of replicas do not matter.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// Store owns the polling tables. Safe for concurrent use.
type Store struct{ pool *pgxpool.Pool }

var _ schedule.Store = (*Store)(nil)

// New returns a Store on pool.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// keyLife is how long an idempotency key is kept.
const keyLife = 24 * time.Hour

// ForgetKeys drops up to 100 idempotency keys that have expired.
func (s *Store) ForgetKeys(ctx context.Context) error {
	const q = `
		delete from polling_idempotency_keys
		where ctid = any (array(select ctid from polling_idempotency_keys where created_at < now() - $1::interval order by created_at limit 100))`
	_, err := s.pool.Exec(ctx, q, keyLife)
	return postgres.Classify(err)
}

// DropRuns deletes up to limit runs that were recorded longer ago than age, oldest first. Concurrent calls share the work.
func (s *Store) DropRuns(ctx context.Context, age time.Duration, limit int) (int64, error) {
	const q = `
		delete from polling_runs
		where ctid = any (array(
			select ctid from polling_runs where finished_at < now() - $1::interval order by finished_at limit $2 for update skip locked))`
	tag, err := s.pool.Exec(ctx, q, age, limit)
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("drop old runs: %w", err))
	}
	return tag.RowsAffected(), nil
}

// scanResult reads a row of symbol, price, observed_at, code, provider, and then more. Columns without a value are null.
func scanResult(row pgx.CollectableRow, more ...any) (jobs.Result, error) {
	var symbol market.Symbol
	var price *market.Price
	var observed *time.Time
	var code, provider *string
	if err := row.Scan(append([]any{&symbol, &price, &observed, &code, &provider}, more...)...); err != nil {
		return jobs.Result{}, err
	}
	if code != nil {
		return jobs.Result{Symbol: symbol, Outcome: jobs.Outcome(*code)}, nil
	}
	return jobs.Result{
		Symbol: symbol, Outcome: jobs.OK, Provider: orZero(provider), Price: orZero(price), ObservedAt: orZero(observed),
	}, nil
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// resultColumns are results as parameters: an array for each column, with null where a result has no value.
type resultColumns struct {
	symbols                  []string
	prices, codes, providers []*string
	observed                 []*time.Time
}

func (c *resultColumns) add(r jobs.Result) {
	var price, code, provider *string
	var observed *time.Time
	if r.Outcome == jobs.OK {
		text := r.Price.String()
		price, observed = &text, &r.ObservedAt
		if r.Provider != "" {
			provider = &r.Provider
		}
	} else {
		text := string(r.Outcome)
		code = &text
	}
	c.symbols, c.prices, c.observed = append(c.symbols, string(r.Symbol)), append(c.prices, price), append(c.observed, observed)
	c.codes, c.providers = append(c.codes, code), append(c.providers, provider)
}

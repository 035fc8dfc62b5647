package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

const (
	seriesTables  = `backfill_series f join backfills b on b.id = f.backfill_id join bar_series s on s.symbol = f.symbol and s.provider = f.series`
	seriesColumns = `
		f.symbol, b.provider, b.bars, b.start_at, b.end_at, s.generation, f.next_from, f.first_bar, f.last_bar, f.bars, f.missing,
		f.recent::text, f.marks::text, f.check_at, f.complete, f.done, f.not_before, f.idle, f.failures, coalesce(f.last_code, '')`
)

// scanSeries reads a row of seriesColumns, and then more.
func scanSeries(row pgx.Row, more ...any) (s backfill.Series, err error) {
	var end, first, last, check *time.Time
	var recent, marks string
	err = row.Scan(append([]any{
		&s.Symbol, &s.Provider, &s.Interval, &s.Start, &end, &s.Generation, &s.NextFrom, &first, &last, &s.Bars, &s.Missing,
		&recent, &marks, &check, &s.Complete, &s.Done, &s.NotBefore, &s.Idle, &s.Failures, &s.LastCode,
	}, more...)...)
	if err != nil {
		return s, err
	}
	s.End, s.First, s.Last, s.CheckAt, s.Adjusts = orZero(end), orZero(first), orZero(last), orZero(check), market.Adjusts(s.Provider)
	if err := json.Unmarshal([]byte(recent), &s.Recent); err != nil {
		return s, fmt.Errorf("decode recent bars: %w", err)
	}
	if err := json.Unmarshal([]byte(marks), &s.Marks); err != nil {
		return s, fmt.Errorf("decode marks: %w", err)
	}
	return s, nil
}

// dueSeries says that a row of backfill_series f is due and nobody holds it.
const dueSeries = `not f.done and not f.paused and f.not_before <= now() and (f.lease_expires_at is null or f.lease_expires_at <= now())`

// DueSeries counts the series that are due, by provider.
func (s *Store) DueSeries(ctx context.Context) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, "select f.provider, count(*) from backfill_series f where "+dueSeries+" group by f.provider")
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("find due histories: %w", err))
	}
	due := map[string]int{}
	var provider string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&provider, &n}, func() error { due[provider] = n; return nil })
	return due, postgres.Classify(err)
}

// ClaimSeries leases the series that is due for the longest time to the holder of token. It skips those that others claim or hold.
func (s *Store) ClaimSeries(ctx context.Context, provider string, token uuid.UUID) (c backfill.Claim, ok bool, err error) {
	const q = `
		with due as (
			select f.backfill_id, f.symbol
			from backfill_series f
			where f.provider = $1 and ` + dueSeries + `
			order by f.not_before
			limit 1
			for update skip locked
		), f as (
			update backfill_series f
			set lease_token = $2::uuid, lease_expires_at = now() + $3::interval
			from due
			where f.backfill_id = due.backfill_id and f.symbol = due.symbol
			returning f.*)
		select ` + seriesColumns + `, f.backfill_id, now()
		from f join backfills b on b.id = f.backfill_id join bar_series s on s.symbol = f.symbol and s.provider = f.series`
	c.Token = token
	c.Series, err = scanSeries(s.pool.QueryRow(ctx, q, provider, token.String(), backfill.Lease), &c.BackfillID, &c.Now)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	return c, err == nil, postgres.Classify(err)
}

const keepSeries = `
	update backfill_series
	set next_from = $4, first_bar = $5, last_bar = $6, bars = $7, missing = $8, recent = $9::jsonb, marks = $10::jsonb, check_at = $11,
	    complete = $12, done = $13, not_before = $14, idle = $15, failures = $16, last_code = nullif($17, ''),
	    lease_token = null, lease_expires_at = null
	where backfill_id = $1 and symbol = $2 and lease_token = $3::uuid`

// KeepTx implements [backfill.Store]. It locks the series of bars for the rest of the transaction, so that responses get their ids in the
// order in which they are committed.
func (s *Store) KeepTx(ctx context.Context, tx pgx.Tx, c backfill.Claim, next backfill.Series) (id uuid.UUID, err error) {
	series := market.BarSeries(c.Provider, c.Interval)
	var last uuid.UUID
	const lock = "select last_response_id::text from bar_series where provider = $1 and symbol = $2 for update"
	if err := tx.QueryRow(ctx, lock, series, string(c.Symbol)).Scan(&last); err != nil {
		return id, err
	}
	recent, err := json.Marshal(next.Recent)
	if err != nil {
		return id, fmt.Errorf("encode recent bars: %w", err)
	}
	marks, err := json.Marshal(next.Marks)
	if err != nil {
		return id, fmt.Errorf("encode marks: %w", err)
	}
	tag, err := tx.Exec(ctx, keepSeries, c.BackfillID, string(c.Symbol), c.Token.String(), next.NextFrom, orNull(next.First), orNull(next.Last),
		next.Bars, next.Missing, string(recent), string(marks), orNull(next.CheckAt), next.Complete, next.Done, next.NotBefore, next.Idle, next.Failures, next.LastCode)
	switch {
	case err != nil:
		return id, err
	case tag.RowsAffected() == 0:
		return id, backfill.ErrLost
	}
	if id, err = idAfter(last); err != nil {
		return id, err
	}
	if _, err := tx.Exec(ctx, "update bar_series set last_response_id = $3::uuid where provider = $1 and symbol = $2", series, string(c.Symbol), id.String()); err != nil {
		return id, err
	}
	if next.Complete && !c.Complete {
		_, err = tx.Exec(ctx, settleBars, series, []string{string(c.Symbol)})
	}
	return id, err
}

// idAfter returns a new id that is greater than last, although the clock of the replica that made last may be ahead of ours.
func idAfter(last uuid.UUID) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil || bytes.Compare(id[:], last[:]) > 0 {
		return id, err
	}
	copy(id[:6], last[:6])
	for i := 5; i >= 0; i-- { // one millisecond later
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id, nil
}

// Fail implements [backfill.Store].
func (s *Store) Fail(ctx context.Context, c backfill.Claim, next backfill.Series) error {
	const q = `
		update backfill_series
		set not_before = $4, failures = $5, last_code = nullif($6, ''), lease_token = null, lease_expires_at = null
		where backfill_id = $1 and symbol = $2 and lease_token = $3::uuid`
	_, err := s.pool.Exec(ctx, q, c.BackfillID, string(c.Symbol), c.Token.String(), next.NotBefore, next.Failures, next.LastCode)
	return postgres.Classify(err)
}

// Restart implements [backfill.Store]. A response of the new generation has an id greater than since, and all before have a smaller one.
func (s *Store) Restart(ctx context.Context, c backfill.Claim) error {
	series := market.BarSeries(c.Provider, c.Interval)
	return postgres.Classify(postgres.Retry(ctx, func() error {
		return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			var last uuid.UUID
			const lock = "select last_response_id::text from bar_series where provider = $1 and symbol = $2 for update"
			if err := tx.QueryRow(ctx, lock, series, string(c.Symbol)).Scan(&last); err != nil {
				return err
			}
			var held bool
			const hold = "select true from backfill_series where backfill_id = $1 and symbol = $2 and lease_token = $3::uuid for update"
			if err := tx.QueryRow(ctx, hold, c.BackfillID, string(c.Symbol), c.Token.String()).Scan(&held); err != nil {
				return postgres.ClassifyOne(err, backfill.ErrLost)
			}
			since, err := idAfter(last)
			if err != nil {
				return err
			}
			const begin = `
				update bar_series
				set generation = generation + 1, since = $3::uuid, last_response_id = $3::uuid, adjusting = true
				where provider = $1 and symbol = $2`
			if _, err := tx.Exec(ctx, begin, series, string(c.Symbol), since.String()); err != nil {
				return err
			}
			const restart = `
				update backfill_series f
				set next_from = b.start_at, first_bar = null, last_bar = null, bars = 0, missing = 0, recent = 'null', marks = 'null', check_at = null,
				    complete = false, done = false, not_before = now(), idle = 0, failures = 0, last_code = null, lease_token = null, lease_expires_at = null
				from backfills b
				where b.id = f.backfill_id and f.series = $1 and f.symbol = $2`
			_, err = tx.Exec(ctx, restart, series, string(c.Symbol))
			return err
		})
	}))
}

// Behind implements [backfill.Store].
func (s *Store) Behind(ctx context.Context) (n int, err error) {
	const q = "select count(*) from backfill_series where not done and not paused and not_before < now() - interval '1 minute'"
	return n, postgres.Classify(s.pool.QueryRow(ctx, q).Scan(&n))
}

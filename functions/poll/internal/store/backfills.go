package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/ids"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

var errNoBackfill = fault.New(fault.NotFound, fault.CodeBackfillNotFound, "there is no such backfill")

// CreateBackfill stores a backfill that is due at once, and returns its ID. With an idempotency key it does so once, as [Store.Create]. A
// series that others fill, too, is checked for splits at once: all its closes must be in the same shares. One transaction.
func (s *Store) CreateBackfill(ctx context.Context, c backfill.Config, client, key string) (id string, err error) {
	fingerprint, err := c.Fingerprint()
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	if id, err = ids.Backfill.New(); err != nil {
		return "", err
	}
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		const expire = `
			update backfills
			set idempotency_key = null
			where client = $1 and idempotency_key = $2 and created_at < now() - $3::interval`
		if _, err := tx.Exec(ctx, expire, client, key, keyLife); err != nil {
			return err
		}
		const q = `
			insert into backfills (id, symbols, provider, bars, start_at, end_at, client, idempotency_key, fingerprint)
			values ($1, $2::text[], $3, $4, $5, $6, $7, nullif($8, ''), $9)
			on conflict on constraint backfills_key do nothing`
		tag, err := tx.Exec(ctx, q, id, texts(c.Symbols), c.Provider, string(c.Interval), c.Start, c.End, client, key, fingerprint)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			id, err = keptBackfillTx(ctx, tx, client, key, fingerprint)
			return err
		}
		return addSeriesTx(ctx, tx, id, c)
	})
	return id, postgres.Classify(err)
}

// keptBackfillTx returns the ID that the key is bound to.
func keptBackfillTx(ctx context.Context, tx pgx.Tx, client, key string, fingerprint []byte) (id string, err error) {
	var same bool
	const q = "select id, fingerprint = $3 from backfills where client = $1 and idempotency_key = $2"
	if err := tx.QueryRow(ctx, q, client, key, fingerprint).Scan(&id, &same); err != nil {
		return "", fmt.Errorf("find idempotency key: %w", err)
	}
	if !same {
		return "", errOtherRequest
	}
	return id, nil
}

func addSeriesTx(ctx context.Context, tx pgx.Tx, id string, c backfill.Config) error {
	series, symbols := market.BarSeries(c.Provider, c.Interval), texts(c.Symbols)
	const addBars = `
		insert into bar_series (symbol, provider)
		select symbol, $1 from unnest($2::text[]) as w (symbol) order by symbol
		on conflict on constraint bar_series_pk do nothing`
	if _, err := tx.Exec(ctx, addBars, series, symbols); err != nil {
		return err
	}
	if err := lockBarsTx(ctx, tx, series, symbols); err != nil {
		return err
	}
	if market.Adjusts(c.Provider) {
		const checkOthers = `
			update backfill_series
			set check_at = now(), not_before = least(not_before, now()), done = false
			where series = $1 and symbol = any($2::text[]) and complete`
		if _, err := tx.Exec(ctx, checkOthers, series, symbols); err != nil {
			return err
		}
	}
	const add = `
		insert into backfill_series (backfill_id, symbol, provider, series, next_from)
		select $1, symbol, $2, $3, $4 from unnest($5::text[]) as w (symbol)`
	_, err := tx.Exec(ctx, add, id, c.Provider, series, c.Start, symbols)
	return err
}

// lockBarsTx locks series of bars. Whoever writes them or rows of backfill_series locks them first, in this order.
func lockBarsTx(ctx context.Context, tx pgx.Tx, series string, symbols []string) error {
	const q = "select from bar_series where provider = $1 and symbol = any($2::text[]) order by symbol for update"
	_, err := tx.Exec(ctx, q, series, symbols)
	return err
}

const backfillColumns = `
	id, symbols, provider, bars, start_at, end_at, paused, created_at,
	not exists (select from backfill_series where backfill_id = backfills.id and not done)`

func scanBackfill(row pgx.CollectableRow) (b backfill.Backfill, err error) {
	err = row.Scan(&b.ID, &b.Config.Symbols, &b.Config.Provider, &b.Config.Interval, &b.Config.Start, &b.Config.End, &b.Paused, &b.CreatedAt, &b.Done)
	return b, err
}

// Backfill returns a backfill and its series, by symbol. NotFound with [fault.CodeBackfillNotFound].
func (s *Store) Backfill(ctx context.Context, id string) (backfill.Backfill, []backfill.Series, error) {
	if !ids.Backfill.Is(id) {
		return backfill.Backfill{}, nil, errNoBackfill
	}
	rows, err := s.pool.Query(ctx, "select "+backfillColumns+" from backfills where id = $1", id)
	if err != nil {
		return backfill.Backfill{}, nil, postgres.Classify(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, scanBackfill)
	if err != nil {
		return backfill.Backfill{}, nil, postgres.ClassifyOne(err, errNoBackfill)
	}
	rows, err = s.pool.Query(ctx, "select "+seriesColumns+" from "+seriesTables+" where f.backfill_id = $1 order by f.symbol", id)
	if err != nil {
		return backfill.Backfill{}, nil, postgres.Classify(err)
	}
	series, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (backfill.Series, error) { return scanSeries(row) })
	return b, series, postgres.Classify(err)
}

// Backfills lists backfills by ID, as [Store.Jobs] lists jobs.
func (s *Store) Backfills(ctx context.Context, after *string, limit int) ([]backfill.Backfill, error) {
	rows, err := s.pool.Query(ctx, "select "+backfillColumns+" from backfills where id > coalesce($1, '') order by id limit $2", after, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanBackfill)
	return all, postgres.Classify(err)
}

// PauseBackfill pauses or resumes a backfill. An answer that is being fetched is still stored. NotFound with
// [fault.CodeBackfillNotFound].
func (s *Store) PauseBackfill(ctx context.Context, id string, paused bool) error {
	if !ids.Backfill.Is(id) {
		return errNoBackfill
	}
	const q = `
		with b as (update backfills set paused = $2 where id = $1 returning id), s as (
			update backfill_series set paused = $2 where backfill_id = $1)
		select true from b`
	var exists bool
	return postgres.ClassifyOne(s.pool.QueryRow(ctx, q, id, paused).Scan(&exists), errNoBackfill)
}

// RemoveBackfill deletes a backfill. Its points stay. What is being fetched for it is not stored. NotFound with
// [fault.CodeBackfillNotFound].
func (s *Store) RemoveBackfill(ctx context.Context, id string) error {
	if !ids.Backfill.Is(id) {
		return errNoBackfill
	}
	return postgres.Classify(postgres.Retry(ctx, func() error {
		return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			const lock = `
				select from bar_series
				where (symbol, provider) in (select symbol, series from backfill_series where backfill_id = $1)
				order by symbol
				for update`
			if _, err := tx.Exec(ctx, lock, id); err != nil {
				return err
			}
			var series string
			var symbols []string
			const remove = "delete from backfills where id = $1 returning provider || '-' || bars, symbols"
			if err := tx.QueryRow(ctx, remove, id).Scan(&series, &symbols); err != nil {
				return postgres.ClassifyOne(err, errNoBackfill)
			}
			_, err := tx.Exec(ctx, settleBars, series, symbols)
			return err
		})
	}))
}

// settleBars ends the adjusting of series that all their backfills have covered. A series that nobody fills any more is not adjusting, but
// compute-ma still sees which of its points are older than the split.
const settleBars = `
	update bar_series b
	set adjusting = false
	where b.provider = $1 and b.symbol = any($2::text[]) and b.adjusting
	  and not exists (select from backfill_series f where f.series = b.provider and f.symbol = b.symbol and not f.complete)`

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

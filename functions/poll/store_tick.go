package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// lease is how long a claim holds without renewal: a tick that died gives its jobs free after that.
const lease = 30 * time.Second

// claim takes up to limit due jobs for one tick: on Postgres' clock, oldest attempt first, passing over those that
// another tick holds (SKIP LOCKED while it claims, the lease while it works).
func (s *pgStore) claim(ctx context.Context, limit int) ([]claim, error) {
	const q = `
		update polling_jobs
		set lease_token = gen_random_uuid(), lease_expires_at = now() + $2::interval, attempted_at = now()
		where id in (
			select id
			from polling_jobs
			where status = 'active' and next_run_at <= now() and (lease_expires_at is null or lease_expires_at <= now())
			order by attempted_at nulls first, next_run_at
			limit $1
			for update skip locked)
		returning id, lease_token, created_at, now(), symbols, interval_s, provider`
	rows, err := s.pool.Query(ctx, q, limit, lease)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim jobs: %w", err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claim, err error) {
		var created, now time.Time
		err = row.Scan(&c.jobID, &c.token, &created, &now, &c.config.Symbols, &c.config.Interval, &c.config.Provider)
		c.scheduled, c.next = period(created, now, time.Duration(c.config.Interval)*time.Second)
		return c, err
	})
	if err == nil {
		err = s.readTurns(ctx, all)
	}
	return all, postgres.Classify(err)
}

// readTurns notes in the claims when each of their symbols was last asked for.
func (s *pgStore) readTurns(ctx context.Context, claims []claim) error {
	at := make(map[string]int, len(claims))
	ids := make([]string, len(claims))
	for i := range claims {
		claims[i].attempted = map[market.Symbol]time.Time{}
		at[claims[i].jobID], ids[i] = i, claims[i].jobID
	}
	rows, err := s.pool.Query(ctx, "select job_id, symbol, attempted_at from polling_results where job_id = any($1) and attempted_at is not null", ids)
	if err != nil {
		return fmt.Errorf("read turns: %w", err)
	}
	var id string
	var symbol market.Symbol
	var last time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &symbol, &last}, func() error {
		claims[at[id]].attempted[symbol] = last
		return nil
	})
	return err
}

// renew extends the leases of claims under way; one that another tick took over stays with that.
func (s *pgStore) renew(ctx context.Context, claims []claim) error {
	ids, tokens := make([]string, len(claims)), make([]uuid.UUID, len(claims))
	for i, c := range claims {
		ids[i], tokens[i] = c.jobID, c.token
	}
	const q = `
		update polling_jobs j
		set lease_expires_at = now() + $3::interval
		from unnest($1::text[], $2::uuid[]) as c (id, token)
		where j.id = c.id and j.lease_token = c.token`
	_, err := s.pool.Exec(ctx, q, ids, tokens, lease)
	return postgres.Classify(err)
}

// complete records a claim's run and frees the job, if the lease is still this tick's: recorded is false if another
// tick has taken over. One transaction; (job, period) is unique.
func (s *pgStore) complete(ctx context.Context, c claim, results []result) (recorded bool, err error) {
	failed := 0
	for _, r := range results {
		if r.Code != nil {
			failed++
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		const free = `
			update polling_jobs
			set next_run_at = $3, last_run_at = now(), runs = runs + 1, failures = failures + $4,
			    lease_token = null, lease_expires_at = null
			where id = $1 and lease_token = $2`
		tag, err := tx.Exec(ctx, free, c.jobID, uuid.UUID(c.token), c.next, min(failed, 1))
		if err != nil {
			return fmt.Errorf("free job: %w", err)
		}
		if recorded = tag.RowsAffected() == 1; !recorded {
			return nil
		}
		// A clock that was set back could offer a period again: once is enough.
		const run = `
			insert into polling_runs (job_id, scheduled_at, failed) values ($1, $2, $3)
			on conflict on constraint polling_runs_pk do nothing`
		if _, err := tx.Exec(ctx, run, c.jobID, c.scheduled, failed); err != nil {
			return fmt.Errorf("record run: %w", err)
		}
		return writeResults(ctx, tx, c.jobID, results)
	})
	return recorded && err == nil, postgres.Classify(err)
}

func writeResults(ctx context.Context, tx pgx.Tx, jobID string, results []result) error {
	const q = `
		insert into polling_results as r (job_id, symbol, at, price, observed_at, code, attempted_at)
		values ($1, $2, now(), $3, $4, $5, case when $6 then now() end)
		on conflict on constraint polling_results_pk do update
		set at = excluded.at, price = excluded.price, observed_at = excluded.observed_at, code = excluded.code,
		    attempted_at = coalesce(excluded.attempted_at, r.attempted_at)`
	var batch pgx.Batch
	for _, r := range results {
		batch.Queue(q, jobID, r.Symbol, r.Price, r.ObservedAt, r.Code, r.attempted)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

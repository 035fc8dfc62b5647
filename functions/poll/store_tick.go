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

// lease is how long a claim holds without renewal. The jobs and series of a tick that died are free again after it.
const lease = 15 * time.Second

// dueProvider is a provider with jobs to run.
type dueProvider struct {
	Provider string
	Now      bool // jobs are due
	Soon     bool // jobs will be due within the look-ahead
}

// due gives the providers of jobs that are due at now (the database's clock), or will be within ahead, perhaps once more: a job
// that is late may have its next period soon.
func (s *pgStore) due(ctx context.Context, ahead time.Duration) (now time.Time, all []dueProvider, err error) {
	const q = `
		select now(), provider,
		       bool_or(next_run_at <= now() and (lease_expires_at is null or lease_expires_at <= now())),
		       bool_or(greatest(next_run_at, following) <= now() + $1::interval)
		from polling_jobs,
		     lateral (select created_at + (floor(extract(epoch from now() - created_at) / interval_s) + 1) * interval_s * interval '1 second' as following) f
		where status = 'active' and next_run_at <= now() + $1::interval
		group by provider`
	rows, err := s.pool.Query(ctx, q, ahead)
	if err != nil {
		return now, nil, postgres.Classify(fmt.Errorf("find due providers: %w", err))
	}
	all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d dueProvider, err error) {
		return d, row.Scan(&now, &d.Provider, &d.Now, &d.Soon)
	})
	return now, all, postgres.Classify(err)
}

// claim leases up to limit of the provider's jobs that were due at until (and are now) to the holder of token, on Postgres'
// clock. It passes over jobs that somebody else holds: SKIP LOCKED while they claim, the lease while they work. Jobs of which
// no symbol was served for longest come first, so that a budget too small for all of them serves all in turn.
func (s *pgStore) claim(ctx context.Context, provider string, token uuid.UUID, until time.Time, limit int) ([]claim, error) {
	const q = `
		with due as (
			select id
			from polling_jobs
			where provider = $1 and status = 'active' and next_run_at <= least(now(), $2::timestamptz)
			  and (lease_expires_at is null or lease_expires_at <= now())
			order by attempted_at nulls first, next_run_at
			limit $3
			for update skip locked)
		update polling_jobs j
		set lease_token = $4::uuid, lease_expires_at = now() + $5::interval
		from due
		where j.id = due.id
		returning j.id, j.created_at, now(), j.symbols, j.interval_s`
	rows, err := s.pool.Query(ctx, q, provider, until, limit, token.String(), lease)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim jobs: %w", err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claim, err error) {
		var created, now time.Time
		var seconds int
		err = row.Scan(&c.jobID, &created, &now, &c.symbols, &seconds)
		c.interval = time.Duration(seconds) * time.Second
		c.scheduled, c.next = period(created, now, c.interval)
		return c, err
	})
	return all, postgres.Classify(err)
}

// renew extends the leases of what token still holds of the jobs and series given.
func (s *pgStore) renew(ctx context.Context, token uuid.UUID, jobs []string, provider string, symbols []market.Symbol) error {
	var batch pgx.Batch
	batch.Queue(`
		update polling_jobs
		set lease_expires_at = now() + $3::interval
		where id = any($1::text[]) and lease_token = $2::uuid`, jobs, token.String(), lease)
	batch.Queue(`
		update polling_series
		set lease_expires_at = now() + $4::interval
		where provider = $1 and symbol = any($2::text[]) and lease_token = $3::uuid`, provider, texts(symbols), token.String(), lease)
	return postgres.Classify(s.pool.SendBatch(ctx, &batch).Close())
}

// completion is a claimed job all of whose symbols have a result.
type completion struct {
	claim
	results []result // of its symbols, in their order
}

// completeQuery frees the jobs that token still holds, and records a run and results of just these. A clock that was set back
// could offer a period again: one run of it is enough.
const completeQuery = `
	with done as (
		select *
		from unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::boolean[]) as d (id, scheduled_at, next_run_at, failed, served)
	), freed as (
		update polling_jobs j
		set next_run_at = d.next_run_at, last_run_at = now(), runs = runs + 1, failures = failures + least(d.failed, 1),
		    attempted_at = case when d.served then now() else attempted_at end, lease_token = null, lease_expires_at = null
		from done d
		where j.id = d.id and j.lease_token = $1::uuid
		returning j.id, d.scheduled_at, d.failed
	), run as (
		insert into polling_runs (job_id, scheduled_at, failed)
		select id, scheduled_at, failed from freed
		on conflict on constraint polling_runs_pk do nothing
	), kept as (
		insert into polling_results as r (job_id, symbol, at, price, observed_at, code, provider)
		select w.job_id, w.symbol, now(), w.price::numeric, w.observed_at, w.code, w.provider
		from unnest($7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::text[]) as w (job_id, symbol, price, observed_at, code, provider)
		join freed on freed.id = w.job_id
		on conflict on constraint polling_results_pk do update
		set at = excluded.at, price = excluded.price, observed_at = excluded.observed_at, code = excluded.code, provider = excluded.provider
	)
	select count(*) from freed`

func queueCompletions(batch *pgx.Batch, token uuid.UUID, all []completion, recorded *int64) {
	var ids, jobs, symbols []string
	var scheduled, next []time.Time
	var failed []int32
	var served []bool
	var prices, codes, by []*string
	var observed []*time.Time
	for _, c := range all {
		var bad int32
		any := false
		for _, r := range c.results {
			if r.Code != nil {
				bad++
			}
			any = any || r.attempted
			jobs, symbols = append(jobs, c.jobID), append(symbols, string(r.Symbol))
			prices, observed = append(prices, r.priceText()), append(observed, r.ObservedAt)
			codes, by = append(codes, r.Code), append(by, r.Provider)
		}
		ids, scheduled, next = append(ids, c.jobID), append(scheduled, c.scheduled), append(next, c.next)
		failed, served = append(failed, bad), append(served, any)
	}
	batch.Queue(completeQuery, token.String(), ids, scheduled, next, failed, served, jobs, symbols, prices, observed, codes, by).
		QueryRow(func(row pgx.Row) error { return row.Scan(recorded) })
}

// outcome is what a pass has to write: results of series that it fetched, series that it gives back unasked, jobs that are
// complete.
type outcome struct {
	provider string
	fetched  []*want
	unasked  []*want
	jobs     []completion
}

// write records an outcome in one transaction, as far as token still holds the series and jobs, and gives the number of runs
// recorded. It may be repeated: what was written is no longer held.
func (s *pgStore) write(ctx context.Context, token uuid.UUID, o outcome) (recorded int64, err error) {
	err = postgres.Retry(ctx, func() error {
		recorded = 0
		var batch pgx.Batch
		if len(o.fetched) > 0 {
			queueFetched(&batch, token, o.provider, o.fetched)
		}
		if len(o.unasked) > 0 {
			queueUnasked(&batch, token, o.provider, o.unasked)
		}
		if len(o.jobs) > 0 {
			queueCompletions(&batch, token, o.jobs, &recorded)
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	return recorded, postgres.Classify(err)
}

func texts(symbols []market.Symbol) []string {
	out := make([]string, len(symbols))
	for i, s := range symbols {
		out[i] = string(s)
	}
	return out
}

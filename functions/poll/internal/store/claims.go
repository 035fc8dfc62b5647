package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// Due returns the providers of jobs that are due now, or will be within ahead. A provider can be both: a job that is late may have its
// next period soon.
func (s *Store) Due(ctx context.Context, ahead time.Duration) (now time.Time, all []schedule.DueProvider, err error) {
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
	all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d schedule.DueProvider, err error) {
		return d, row.Scan(&now, &d.Provider, &d.Now, &d.Soon)
	})
	return now, all, postgres.Classify(err)
}

// Claim leases up to limit of the provider's jobs that were due at until (and are now) to the holder of token. It skips jobs that
// somebody else holds: SKIP LOCKED while they claim, the lease while they work. Jobs whose symbols have waited longest come first, so
// that a budget too small for all of them serves all in turn.
func (s *Store) Claim(ctx context.Context, provider string, token uuid.UUID, until time.Time, limit int) ([]schedule.Claim, error) {
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
	rows, err := s.pool.Query(ctx, q, provider, until, limit, token.String(), schedule.Lease)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim jobs: %w", err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c schedule.Claim, err error) {
		var created, now time.Time
		var seconds int
		err = row.Scan(&c.JobID, &created, &now, &c.Symbols, &seconds)
		c.Interval = time.Duration(seconds) * time.Second
		c.Scheduled, c.Next = jobs.Period(created, now, c.Interval)
		return c, err
	})
	return all, postgres.Classify(err)
}

const (
	renewJobs = `
		update polling_jobs
		set lease_expires_at = now() + $3::interval
		where id = any($1::text[]) and lease_token = $2::uuid`
	renewSeries = `
		update polling_series
		set lease_expires_at = now() + $4::interval
		where provider = $1 and symbol = any($2::text[]) and lease_token = $3::uuid`
)

// Renew extends the leases that token still has on these jobs and series.
func (s *Store) Renew(ctx context.Context, token uuid.UUID, jobIDs []string, provider string, symbols []market.Symbol) error {
	var batch pgx.Batch
	batch.Queue(renewJobs, jobIDs, token.String(), schedule.Lease)
	batch.Queue(renewSeries, provider, texts(symbols), token.String(), schedule.Lease)
	return postgres.Classify(s.pool.SendBatch(ctx, &batch).Close())
}

// Write records a batch in one transaction, as far as token still holds the series and jobs, and returns the number of runs recorded.
// It may be repeated: what was written is no longer held.
func (s *Store) Write(ctx context.Context, token uuid.UUID, b schedule.Batch) (recorded int64, err error) {
	err = postgres.Retry(ctx, func() error {
		recorded = 0
		var batch pgx.Batch
		if len(b.Fetched) > 0 {
			queueFetched(&batch, token, b.Provider, b.Fetched)
		}
		if len(b.Released) > 0 {
			queueReleased(&batch, token, b.Provider, b.Released)
		}
		if len(b.Jobs) > 0 {
			queueCompletions(&batch, token, b.Jobs).QueryRow(func(row pgx.Row) error { return row.Scan(&recorded) })
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	return recorded, postgres.Classify(err)
}

// completeQuery frees the jobs that token still holds, and records a run and results of just these. A clock that was set back could
// offer a period again; one run of it is enough.
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

// queueCompletions records jobs that are complete; the query returns how many of them token still held.
func queueCompletions(batch *pgx.Batch, token uuid.UUID, all []schedule.Completion) *pgx.QueuedQuery {
	var ids, jobIDs []string
	var scheduled, next []time.Time
	var failed []int32
	var served []bool
	var results resultColumns
	for _, c := range all {
		var failures int32
		asked := false
		for _, r := range c.Results {
			if r.Outcome != jobs.OK {
				failures++
			}
			asked = asked || r.Asked
			jobIDs = append(jobIDs, c.JobID)
			results.add(r.Result)
		}
		ids, scheduled, next = append(ids, c.JobID), append(scheduled, c.Scheduled), append(next, c.Next)
		failed, served = append(failed, failures), append(served, asked)
	}
	return batch.Queue(completeQuery, token.String(), ids, scheduled, next, failed, served,
		jobIDs, results.symbols, results.prices, results.observed, results.codes, results.providers)
}

package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/fetch"
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
// that a budget too small for all of them serves all in turn. While the provider is backed off, only a probe gets a job.
func (s *Store) Claim(ctx context.Context, provider string, token uuid.UUID, until time.Time, limit int, probe bool) ([]schedule.Claim, error) {
	const q = `
		with due as (
			select id
			from polling_jobs
			where provider = $1 and status = 'active' and next_run_at <= least(now(), $2::timestamptz)
			  and (lease_expires_at is null or lease_expires_at <= now())
			  and ($6::boolean or not exists (select from provider_backoffs b where b.provider = $1))
			order by attempted_at nulls first, next_run_at
			limit $3
			for update skip locked)
		update polling_jobs j
		set lease_token = $4::uuid, lease_expires_at = now() + $5::interval
		from due
		where j.id = due.id
		returning j.id, j.created_at, now(), j.symbols, j.interval_s, coalesce(j.resumed_at, j.created_at)`
	rows, err := s.pool.Query(ctx, q, provider, until, limit, token.String(), schedule.Lease, probe)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim jobs: %w", err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c schedule.Claim, err error) {
		var created, now time.Time
		var seconds int
		err = row.Scan(&c.JobID, &created, &now, &c.Symbols, &seconds, &c.Resumed)
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

// Write records a batch in one transaction, as far as token still holds the series and jobs. It may be repeated: what was written is no
// longer held, and an outage that was noted counts once.
func (s *Store) Write(ctx context.Context, token uuid.UUID, b schedule.Batch) (w schedule.Written, err error) {
	err = postgres.Retry(ctx, func() error {
		w = schedule.Written{}
		var batch pgx.Batch
		if len(b.Fetched) > 0 {
			queueFetched(&batch, token, b.Provider, b.Fetched)
		}
		if len(b.Released) > 0 {
			queueReleased(&batch, token, b.Provider, b.Released)
		}
		if b.Outage != nil {
			queueOutage(&batch, b.Provider, *b.Outage, &w)
		}
		if b.Answered {
			queueAnswered(&batch, b.Provider, &w)
		}
		if len(b.Jobs) > 0 {
			queueCompletions(&batch, token, b.Jobs, &w)
		}
		if len(b.Returned) > 0 {
			batch.Queue(returnJobs, token.String(), b.Returned)
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	return w, postgres.Classify(err)
}

// returnJobs ends leases of jobs that were not run. Their turn comes after that of others, so that the next probe is for another job.
const returnJobs = `
	update polling_jobs
	set attempted_at = now(), lease_token = null, lease_expires_at = null
	where id = any($2::text[]) and lease_token = $1::uuid`

// completeQuery frees the jobs that token still holds, and records a run and results of just these. A period may come again, after the clock
// was set back or the job was resumed; one run of it is enough. A job all of whose symbols have failed for a day ($13) is paused; code is
// null if one of them succeeded.
const completeQuery = `
	with done as (
		select d.*, exists (select from polling_runs r where r.job_id = d.id and r.scheduled_at = d.scheduled_at) as again
		from unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::integer[], $6::boolean[], $14::text[])
			as d (id, scheduled_at, next_run_at, failed, served, code)
	), freed as (
		update polling_jobs j
		set next_run_at = d.next_run_at, last_run_at = now(), runs = runs + case when again then 0 else 1 end,
		    failures = failures + case when again then 0 else least(d.failed, 1) end,
		    attempted_at = case when d.served then now() else attempted_at end, lease_token = null, lease_expires_at = null,
		    failing_since = case when d.code is not null then coalesce(failing_since, now()) end,
		    status = case when d.code is not null and failing_since <= now() - $13::interval then 'paused' else status end,
		    paused_code = case when d.code is not null and failing_since <= now() - $13::interval and status = 'active' then d.code else paused_code end
		from done d
		where j.id = d.id and j.lease_token = $1::uuid
		returning j.id, d.scheduled_at, d.failed, j.paused_code
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
	select id, paused_code from freed`

// queueCompletions records jobs that are complete, as far as token still holds them.
func queueCompletions(batch *pgx.Batch, token uuid.UUID, all []schedule.Completion, w *schedule.Written) {
	var ids, jobIDs []string
	var scheduled, next []time.Time
	var failed []int32
	var served []bool
	var codes []*string
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
		failed, served, codes = append(failed, failures), append(served, asked), append(codes, codeOfAll(c.Results))
	}
	batch.Queue(completeQuery, token.String(), ids, scheduled, next, failed, served,
		jobIDs, results.symbols, results.prices, results.observed, results.codes, results.providers, jobs.PauseAfter, codes,
	).Query(func(rows pgx.Rows) error {
		var id string
		var paused *string
		_, err := pgx.ForEachRow(rows, []any{&id, &paused}, func() error {
			if w.Recorded++; paused != nil {
				w.Paused = append(w.Paused, schedule.PausedJob{ID: id, Code: jobs.Outcome(*paused)})
			}
			return nil
		})
		return err
	})
}

// codeOfAll returns the most frequent problem of a job all of whose symbols failed; nil if one succeeded.
func codeOfAll(results []fetch.Result) *string {
	count := map[jobs.Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	if count[jobs.OK] > 0 || len(count) == 0 {
		return nil
	}
	code := string(slices.MaxFunc(slices.Sorted(maps.Keys(count)), func(a, b jobs.Outcome) int { return cmp.Compare(count[a], count[b]) }))
	return &code
}

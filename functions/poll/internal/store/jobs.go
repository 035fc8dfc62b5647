package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"marketdata/functions/poll/internal/ids"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// Create stores a job that is due at once, and returns its ID. With an idempotency key it does so once: a repeat by the same client
// returns the job made before; the same key with another request is a Conflict, [fault.CodeIdempotencyConflict]. One transaction;
// concurrent calls serialise on the key.
func (s *Store) Create(ctx context.Context, c jobs.Config, client, key string) (id string, err error) {
	fingerprint, err := c.Fingerprint()
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	if id, err = ids.Job.New(); err != nil {
		return "", err
	}
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if key != "" {
			kept, err := s.claimKeyTx(ctx, tx, client, key, fingerprint, id)
			if err != nil || kept != id {
				id = kept
				return err
			}
		}
		const q = `
			insert into polling_jobs (id, symbols, provider, interval_s, next_run_at)
			values ($1, $2::text[], $3, $4, now())`
		_, err := tx.Exec(ctx, q, id, texts(c.Symbols), c.Provider, c.Interval)
		return err
	})
	return id, postgres.Classify(err)
}

// claimKeyTx binds the key to id, or returns the ID that it is bound to. An expired key counts as absent.
func (s *Store) claimKeyTx(ctx context.Context, tx pgx.Tx, client, key string, fingerprint []byte, id string) (string, error) {
	const q = `
		insert into polling_idempotency_keys as k (client, key, fingerprint, job_id)
		values ($1, $2, $3, $4)
		on conflict on constraint polling_idempotency_keys_pk do update
		set fingerprint = case when k.created_at < now() - $5::interval then excluded.fingerprint else k.fingerprint end,
		    job_id      = case when k.created_at < now() - $5::interval then excluded.job_id else k.job_id end,
		    created_at  = case when k.created_at < now() - $5::interval then excluded.created_at else k.created_at end
		returning job_id, fingerprint = $3`
	var kept string
	var same bool
	if err := tx.QueryRow(ctx, q, client, key, fingerprint, id, keyLife).Scan(&kept, &same); err != nil {
		return "", fmt.Errorf("claim idempotency key: %w", err)
	}
	if !same {
		return "", errOtherRequest
	}
	return kept, nil
}

const jobColumns = `id, symbols, interval_s, provider, status, coalesce(paused_code, ''), created_at, next_run_at, last_run_at, runs, failures`

func scanJob(row pgx.CollectableRow) (j jobs.Job, err error) {
	err = row.Scan(&j.ID, &j.Config.Symbols, &j.Config.Interval, &j.Config.Provider, &j.Status, &j.PausedCode, &j.CreatedAt,
		&j.NextRunAt, &j.LastRunAt, &j.Runs, &j.Failures)
	return j, err
}

// Job returns a job with its symbols' last results. NotFound with [fault.CodeJobNotFound].
func (s *Store) Job(ctx context.Context, id string) (jobs.Job, []jobs.LastResult, error) {
	if !ids.Job.Is(id) {
		return jobs.Job{}, nil, errNoJob
	}
	rows, err := s.pool.Query(ctx, "select "+jobColumns+" from polling_jobs where id = $1", id)
	if err != nil {
		return jobs.Job{}, nil, postgres.Classify(err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if err != nil {
		return jobs.Job{}, nil, postgres.ClassifyOne(err, errNoJob)
	}
	const q = `
		select r.symbol, r.price, r.observed_at, r.code, r.provider, r.at, s.ask_at
		from polling_results r
		left join polling_series s on s.provider = $2 and s.symbol = r.symbol and s.code = 'symbol_not_found' and r.code = s.code
		where r.job_id = $1
		order by r.symbol`
	rows, err = s.pool.Query(ctx, q, id, j.Config.Provider)
	if err != nil {
		return jobs.Job{}, nil, postgres.Classify(err)
	}
	results, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (last jobs.LastResult, err error) {
		last.Result, err = scanResult(row, &last.At, &last.AskAt)
		return last, err
	})
	return j, results, postgres.Classify(err)
}

// Jobs lists jobs by ID, which is the order in which they were made. after is the last ID of the page before, nil on the first page. An
// empty status means any.
func (s *Store) Jobs(ctx context.Context, status jobs.Status, after *string, limit int) ([]jobs.Job, error) {
	const q = `select ` + jobColumns + ` from polling_jobs where ($1 = '' or status = $1) and id > coalesce($2, '') order by id limit $3`
	rows, err := s.pool.Query(ctx, q, string(status), after, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanJob)
	return all, postgres.Classify(err)
}

// Runs lists a job's recorded runs, newest first, before the given period (nil: all). NotFound with [fault.CodeJobNotFound].
func (s *Store) Runs(ctx context.Context, id string, before *time.Time, limit int) ([]jobs.Run, error) {
	if !ids.Job.Is(id) {
		return nil, errNoJob
	}
	var exists bool
	if err := s.pool.QueryRow(ctx, "select true from polling_jobs where id = $1", id).Scan(&exists); err != nil {
		return nil, postgres.ClassifyOne(err, errNoJob)
	}
	const q = `
		select scheduled_at, finished_at, failed
		from polling_runs
		where job_id = $1 and scheduled_at < coalesce($2, 'infinity'::timestamptz)
		order by scheduled_at desc
		limit $3`
	rows, err := s.pool.Query(ctx, q, id, before, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobs.Run])
	return all, postgres.Classify(err)
}

const (
	pauseQuery = `update polling_jobs set status = 'paused' where id = $1`
	// A job that was paused for its failures is due at once, before others; one that its user paused keeps its periods.
	resumeQuery = `
		update polling_jobs
		set status = 'active', paused_code = null, failing_since = case when status = 'active' then failing_since end,
		    resumed_at = case when paused_code is null then resumed_at else now() end,
		    next_run_at = case when paused_code is null then next_run_at else now() end,
		    attempted_at = case when paused_code is null then attempted_at end
		where id = $1`
)

// SetStatus pauses or resumes a job; setting the status that it has is no error. A resumed job keeps its periods. If it was paused for its
// failures it also runs at once, and its providers get a probe at once if they are backed off. NotFound with [fault.CodeJobNotFound].
func (s *Store) SetStatus(ctx context.Context, id string, status jobs.Status) error {
	if !ids.Job.Is(id) {
		return errNoJob
	}
	err := postgres.Retry(ctx, func() error {
		var batch pgx.Batch
		found := func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return errNoJob
			}
			return nil
		}
		if status == jobs.Paused {
			batch.Queue(pauseQuery, id).Exec(found)
		} else {
			batch.Queue(resumeQuery, id).Exec(found)
			batch.Queue(probeAtOnce, id)
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	return postgres.Classify(err)
}

// Remove deletes a job with its runs, its results and its idempotency key, so that the request can be made again. NotFound with
// [fault.CodeJobNotFound].
func (s *Store) Remove(ctx context.Context, id string) error {
	if !ids.Job.Is(id) {
		return errNoJob
	}
	tag, err := s.pool.Exec(ctx, "delete from polling_jobs where id = $1", id)
	if err == nil && tag.RowsAffected() == 0 {
		return errNoJob
	}
	return postgres.Classify(err)
}

var (
	errNoJob        = fault.New(fault.NotFound, fault.CodeJobNotFound, "there is no such job")
	errOtherRequest = fault.New(fault.Conflict, fault.CodeIdempotencyConflict, "this Idempotency-Key was used with another request")
)

func texts(symbols []market.Symbol) []string {
	out := make([]string, len(symbols))
	for i, s := range symbols {
		out[i] = string(s)
	}
	return out
}

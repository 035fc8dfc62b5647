package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

// pgStore owns the polling tables.
type pgStore struct{ pool *pgxpool.Pool }

// keyLife is how long an idempotency key is kept.
const keyLife = 24 * time.Hour

// create makes a job, due at once. With a key it is made once: the same client's same key gives the job made before;
// with another request it is a Conflict, code "idempotency_conflict". One transaction; two at once serialise on the key.
func (s *pgStore) create(ctx context.Context, c jobConfig, client, key string) (id string, err error) {
	fingerprint, err := c.fingerprint()
	if err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	id = jobPrefix + strings.ReplaceAll(u.String(), "-", "")
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

// claimKeyTx binds the key to id, or gives the id it is bound to. An expired key is as good as none.
func (s *pgStore) claimKeyTx(ctx context.Context, tx pgx.Tx, client, key string, fingerprint []byte, id string) (string, error) {
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
		return "", fault.New(fault.Conflict, "idempotency_conflict", "this Idempotency-Key came with another request before")
	}
	return kept, nil
}

const jobColumns = `id, symbols, interval_s, provider, status, created_at, next_run_at, last_run_at, runs, failures`

func scanJob(row pgx.CollectableRow) (j job, err error) {
	err = row.Scan(&j.ID, &j.Config.Symbols, &j.Config.Interval, &j.Config.Provider, &j.Status, &j.CreatedAt, &j.NextRunAt,
		&j.LastRunAt, &j.Runs, &j.Failures)
	return j, err
}

// job reads one job with its symbols' last results. NotFound with code "job_not_found".
func (s *pgStore) job(ctx context.Context, id string) (job, []result, error) {
	if !isJobID(id) {
		return job{}, nil, errNoJob
	}
	rows, err := s.pool.Query(ctx, "select "+jobColumns+" from polling_jobs where id = $1", id)
	if err != nil {
		return job{}, nil, postgres.Classify(err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if err != nil {
		return job{}, nil, notFound(err)
	}
	rows, err = s.pool.Query(ctx, "select symbol, at, price, observed_at, code, provider from polling_results where job_id = $1 order by symbol", id)
	if err != nil {
		return job{}, nil, postgres.Classify(err)
	}
	results, err := pgx.CollectRows(rows, pgx.RowToStructByPos[result])
	return j, results, postgres.Classify(err)
}

// jobs lists jobs by id, which is the order in which they were made; after is the last id of the page before, nil on the first.
func (s *pgStore) jobs(ctx context.Context, status string, after *string, limit int) ([]job, error) {
	const q = `select ` + jobColumns + ` from polling_jobs where ($1 = '' or status = $1) and id > coalesce($2, '') order by id limit $3`
	rows, err := s.pool.Query(ctx, q, status, after, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanJob)
	return all, postgres.Classify(err)
}

// runs lists a job's recorded runs, newest first, before the given period (nil: all). NotFound with code "job_not_found".
func (s *pgStore) runs(ctx context.Context, id string, before *time.Time, limit int) ([]recorded, error) {
	if !isJobID(id) {
		return nil, errNoJob
	}
	var exists bool
	if err := s.pool.QueryRow(ctx, "select true from polling_jobs where id = $1", id).Scan(&exists); err != nil {
		return nil, notFound(err)
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
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[recorded])
	return all, postgres.Classify(err)
}

// setStatus pauses or resumes; the same status again is no error. A resumed job keeps to its periods.
func (s *pgStore) setStatus(ctx context.Context, id, status string) error {
	if !isJobID(id) {
		return errNoJob
	}
	tag, err := s.pool.Exec(ctx, "update polling_jobs set status = $2 where id = $1", id, status)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return notFound(err)
}

// remove deletes a job with its runs, its results and its idempotency key, so that the request can be made again.
func (s *pgStore) remove(ctx context.Context, id string) error {
	if !isJobID(id) {
		return errNoJob
	}
	tag, err := s.pool.Exec(ctx, "delete from polling_jobs where id = $1", id)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return notFound(err)
}

var errNoJob = fault.New(fault.NotFound, "job_not_found", "there is no such job")

func notFound(err error) error {
	if err = postgres.Classify(err); fault.KindOf(err) == fault.NotFound && err != nil {
		return fault.Wrap(err, fault.NotFound, "job_not_found", "there is no such job")
	}
	return err
}

// forgetKeys drops idempotency keys past their life, a few at a time.
func (s *pgStore) forgetKeys(ctx context.Context) error {
	const q = `
		delete from polling_idempotency_keys
		where ctid = any (array(select ctid from polling_idempotency_keys where created_at < now() - $1::interval order by created_at limit 100))`
	_, err := s.pool.Exec(ctx, q, keyLife)
	return postgres.Classify(err)
}

// dropRuns deletes up to limit runs that were recorded longer ago than age, oldest first. Several at once share the work.
func (s *pgStore) dropRuns(ctx context.Context, age time.Duration, limit int) (int64, error) {
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

var _ store = (*pgStore)(nil)

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/postgres"
)

const (
	// probeLease is how long a probe may take: longer than a tick.
	probeLease = 30 * time.Second
	// longestRetryAfter bounds what a provider can ask for. Binance bans clients that call earlier than it says, for up to three days.
	longestRetryAfter = 24 * time.Hour
)

// Backoffs returns the providers that are backed off.
func (s *Store) Backoffs(ctx context.Context) (map[string]jobs.Backoff, error) {
	const q = `select provider, code, began_at, failed_at, until_at, until_at <= now() from provider_backoffs`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("read back-offs: %w", err))
	}
	off := map[string]jobs.Backoff{}
	var b jobs.Backoff
	_, err = pgx.ForEachRow(rows, []any{&b.Provider, &b.Code, &b.Began, &b.Failed, &b.Until, &b.Due}, func() error {
		off[b.Provider] = b
		return nil
	})
	return off, postgres.Classify(err)
}

// Probe gives the caller one call to a provider that is backed off, if one is due. Of concurrent callers one gets it; if it is killed, the
// next gets one when the lease is over.
func (s *Store) Probe(ctx context.Context, provider string) (bool, error) {
	const q = `
		update provider_backoffs
		set probe_expires_at = now() + $2::interval
		where provider = $1 and until_at <= now() and (probe_expires_at is null or probe_expires_at <= now())`
	tag, err := s.pool.Exec(ctx, q, provider, probeLease)
	return tag.RowsAffected() > 0, postgres.Classify(err)
}

// noteOutage begins a back-off, or extends one whose time was up: several failures of one attempt count once. The waits are 5, 10, 20 …
// seconds up to 15 minutes, of which up to a fifth is left off at random, so that providers that went away together are not asked together;
// or what the provider asked for, if that is longer.
const noteOutage = `
	insert into provider_backoffs as b (provider, failures, code, began_at, failed_at, until_at)
	values ($1, 1, $2, now(), now(), now() + greatest(5 * (1 - random() / 5) * interval '1 second', $3::interval))
	on conflict on constraint provider_backoffs_pk do update
	set failures = b.failures + 1, code = excluded.code, failed_at = now(), probe_expires_at = null,
	    until_at = now() + greatest(least(5 * 2 ^ least(b.failures, 20), 900) * (1 - random() / 5) * interval '1 second', $3::interval)
	where b.until_at <= now()
	returning failures, until_at`

func queueOutage(batch *pgx.Batch, provider string, o schedule.Outage, w *schedule.Written) {
	batch.Queue(noteOutage, provider, string(o.Code), min(o.RetryAfter, longestRetryAfter)).Query(func(rows pgx.Rows) error {
		var failures int
		var until time.Time
		_, err := pgx.ForEachRow(rows, []any{&failures, &until}, func() error {
			if failures == 1 {
				w.Began = &jobs.Backoff{Provider: provider, Code: o.Code, Until: until}
			}
			return nil
		})
		return err
	})
}

// queueAnswered ends a back-off, if there is one.
func queueAnswered(batch *pgx.Batch, provider string, w *schedule.Written) {
	const q = `delete from provider_backoffs where provider = $1 returning now() - began_at`
	batch.Queue(q, provider).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&w.BackedOff}, func() error {
			w.Ended = true
			return nil
		})
		return err
	})
}

// probeAtOnce follows resumeQuery in its transaction.
const probeAtOnce = `
	update provider_backoffs b
	set until_at = now()
	from polling_jobs j
	where j.id = $1 and j.resumed_at = now() and (b.provider = j.provider or j.provider = 'auto') and b.until_at > now()`

// PauseWaiting pauses the jobs that have been due and waiting for [jobs.PauseAfter], if an attempt failed after that. It notes when the
// others began to wait.
func (s *Store) PauseWaiting(ctx context.Context, off map[string]jobs.Backoff) ([]schedule.PausedJob, error) {
	const q = `
		with off as (
			select * from unnest($1::text[], $2::timestamptz[], $3::text[]) as o (provider, failed_at, code)
		), waiting as (
			select j.id, off.failed_at, off.code
			from polling_jobs j
			join off using (provider)
			where j.status = 'active' and j.next_run_at <= now() and (j.lease_expires_at is null or j.lease_expires_at <= now())
			  and (j.failing_since is null or j.failing_since <= off.failed_at - $4::interval)
			for update of j skip locked
		), changed as (
			update polling_jobs j
			set failing_since = coalesce(j.failing_since, now()), status = case when j.failing_since is null then status else 'paused' end,
			    paused_code = case when j.failing_since is not null then w.code end
			from waiting w
			where j.id = w.id
			returning j.id, j.paused_code
		)
		select id, paused_code from changed where paused_code is not null`
	var providers, codes []string
	var failed []time.Time
	for provider, b := range off {
		providers, codes, failed = append(providers, provider), append(codes, string(b.Code)), append(failed, b.Failed)
	}
	rows, err := s.pool.Query(ctx, q, providers, failed, codes, jobs.PauseAfter)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("pause waiting jobs: %w", err))
	}
	paused, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schedule.PausedJob])
	return paused, postgres.Classify(err)
}

// Paused returns how many jobs are paused because all their symbols failed.
func (s *Store) Paused(ctx context.Context) (n int, err error) {
	err = s.pool.QueryRow(ctx, "select count(*) from polling_jobs where paused_code is not null").Scan(&n)
	return n, postgres.Classify(err)
}

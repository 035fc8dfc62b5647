package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

// bulk is a replay of many letters.
type bulk struct {
	ID         uuid.UUID
	Status     string // running, completed, cancelled
	Who        string
	Reason     string
	Filter     filter
	Target     string // function or topic
	DryRun     bool
	Rate       int // letters a second, at most
	LastLetter uuid.UUID
	Cursor     uuid.UUID
	Matched    int64
	Outcomes   map[string]int64
	CreatedAt  time.Time
	FinishedAt *time.Time
	token      *uuid.UUID
}

const bulkColumns = `id, status, who, reason, filter, target, dry_run, rate_per_second, last_letter, cursor, matched, outcomes, created_at,
	finished_at, lease_token`

func scanBulk(row pgx.CollectableRow) (b bulk, err error) {
	err = row.Scan(&b.ID, &b.Status, &b.Who, &b.Reason, &b.Filter, &b.Target, &b.DryRun, &b.Rate, &b.LastLetter, &b.Cursor, &b.Matched,
		&b.Outcomes, &b.CreatedAt, &b.FinishedAt, &b.token)
	return b, err
}

// bulkLease is how long an advance holds without progress: longer than one letter may take.
const bulkLease = time.Minute

// createBulk begins a replay of the open letters that there are now.
func (s *pgStore) createBulk(ctx context.Context, b bulk) (bulk, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return bulk{}, fmt.Errorf("make id: %w", err)
	}
	const q = `
		insert into dead_letter_replays (id, who, reason, filter, target, dry_run, rate_per_second, last_letter, cursor, matched)
		select $8, $9, $10, $11, $12, $13, $14, coalesce((select id from dead_letters order by id desc limit 1), $15), $15,
			(select count(*) from dead_letters where status = 'open' and ` + filterCondition + `)
		returning ` + bulkColumns
	args := append(b.Filter.args(), id, b.Who, clean(b.Reason), b.Filter, b.Target, b.DryRun, b.Rate, uuid.Nil)
	return s.oneBulk(ctx, q, args...)
}

func (s *pgStore) oneBulk(ctx context.Context, q string, args ...any) (bulk, error) {
	rows, err := s.pool.Query(ctx, q, args...)
	if err != nil {
		return bulk{}, postgres.Classify(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, scanBulk)
	if errors.Is(err, pgx.ErrNoRows) {
		return bulk{}, fault.Wrap(err, fault.NotFound, "replay_not_found", "there is no such replay")
	}
	return b, postgres.Classify(err)
}

// bulk reads one replay. NotFound with code "replay_not_found".
func (s *pgStore) bulk(ctx context.Context, id uuid.UUID) (bulk, error) {
	return s.oneBulk(ctx, "select "+bulkColumns+" from dead_letter_replays where id = $1", id)
}

// bulks lists replays, newest first, from before (exclusive) downwards.
func (s *pgStore) bulks(ctx context.Context, before *uuid.UUID, limit int) ([]bulk, error) {
	rows, err := s.pool.Query(ctx, "select "+bulkColumns+" from dead_letter_replays where $1::uuid is null or id < $1 order by id desc limit $2", before, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanBulk)
	return all, postgres.Classify(err)
}

// cancelBulk ends a replay that is running: the letter that is under way is finished, no other begun. Conflict with code
// "not_running" if it has ended.
func (s *pgStore) cancelBulk(ctx context.Context, id uuid.UUID) error {
	const q = "update dead_letter_replays set status = 'cancelled', finished_at = now() where id = $1 and status = 'running'"
	tag, err := s.pool.Exec(ctx, q, id)
	if err != nil || tag.RowsAffected() == 1 {
		return postgres.Classify(err)
	}
	b, err := s.bulk(ctx, id)
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, "not_running", "the replay is %s", b.Status)
}

// claimBulk takes a running replay that nobody advances: the one that has waited longest. ok is false if there is none.
func (s *pgStore) claimBulk(ctx context.Context) (b bulk, ok bool, err error) {
	const q = `
		update dead_letter_replays
		set lease_token = gen_random_uuid(), lease_expires_at = now() + $1::interval
		where id = (
			select id
			from dead_letter_replays
			where status = 'running' and lease_expires_at <= now()
			order by lease_expires_at
			limit 1
			for update skip locked)
		returning ` + bulkColumns
	b, err = s.oneBulk(ctx, q, bulkLease)
	if fault.CodeOf(err) == "replay_not_found" {
		return bulk{}, false, nil
	}
	return b, err == nil, err
}

// nextLetters gives the open letters that a replay comes to next.
func (s *pgStore) nextLetters(ctx context.Context, b bulk, limit int) ([]uuid.UUID, error) {
	const q = `
		select id
		from dead_letters
		where status = 'open' and ` + filterCondition + ` and id > $8 and id <= $9
		order by id
		limit $10`
	rows, err := s.pool.Query(ctx, q, append(b.Filter.args(), b.Cursor, b.LastLetter, limit)...)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return ids, postgres.Classify(err)
}

// progress notes what came of a letter, and keeps the lease. ours is false if the replay was cancelled, or somebody else
// advances it by now.
func (s *pgStore) progress(ctx context.Context, b bulk, letter uuid.UUID, outcome string) (ours bool, err error) {
	const q = `
		update dead_letter_replays
		set cursor = $3, lease_expires_at = now() + $5::interval,
		    outcomes = outcomes || jsonb_build_object($4::text, coalesce((outcomes->>$4)::bigint, 0) + 1)
		where id = $1 and lease_token = $2 and status = 'running'`
	tag, err := s.pool.Exec(ctx, q, b.ID, b.token, letter, outcome, bulkLease)
	return tag.RowsAffected() == 1, postgres.Classify(err)
}

// leave gives a replay back, due again after a while; done says that no letter is left.
func (s *pgStore) leave(ctx context.Context, b bulk, done bool, after time.Duration) error {
	const q = `
		update dead_letter_replays
		set status = case when $3 then 'completed' else status end, finished_at = case when $3 then now() end,
		    lease_token = null, lease_expires_at = now() + $4::interval
		where id = $1 and lease_token = $2 and status = 'running'`
	_, err := s.pool.Exec(ctx, q, b.ID, b.token, done, after)
	return postgres.Classify(err)
}

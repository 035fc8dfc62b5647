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
	ID          uuid.UUID
	Status      string // running, completed, cancelled, stopped
	Who         string
	Reason      string
	Filter      filter
	Target      string // function or topic
	DryRun      bool
	Force       bool
	Rate        int // letters a second, at most
	LastLetter  uuid.UUID
	Cursor      uuid.UUID
	At          *place // the cursor of copies to topics, which go by place
	Matched     int64
	Outcomes    map[string]int64
	Reasons     map[string]int64 // refused and skipped letters by code
	Recent      string           // the last verdicts, oldest first: r refused, a accepted
	CancelledBy *string
	StopReason  *string
	Trouble     *string // why it rests
	CreatedAt   time.Time
	FinishedAt  *time.Time
	token       *uuid.UUID
}

const bulkColumns = `id, status, who, reason, filter, target, dry_run, force, rate_per_second, last_letter, cursor, cursor_topic, cursor_partition,
	cursor_offset, matched, outcomes, reasons, recent, cancelled_by, stop_reason, trouble, created_at, finished_at, lease_token`

func scanBulk(row pgx.CollectableRow) (b bulk, err error) {
	var topic *string
	var partition *int32
	var offset *int64
	err = row.Scan(&b.ID, &b.Status, &b.Who, &b.Reason, &b.Filter, &b.Target, &b.DryRun, &b.Force, &b.Rate, &b.LastLetter, &b.Cursor, &topic, &partition,
		&offset, &b.Matched, &b.Outcomes, &b.Reasons, &b.Recent, &b.CancelledBy, &b.StopReason, &b.Trouble, &b.CreatedAt, &b.FinishedAt, &b.token)
	b.At = placeOf(topic, partition, offset)
	return b, err
}

// bulkLease is how long a process holds a replay that it does not renew; it renews it every second. A process that dies costs
// so much time, and that to the next tick.
const bulkLease = 15 * time.Second

// keyLife is how long an idempotency key is kept.
const keyLife = 24 * time.Hour

// createBulk begins a replay of the open letters that there are now. With a key it is made once: the same operator's same key
// gives the one made before, with another request it is a Conflict, code "idempotency_conflict".
func (s *pgStore) createBulk(ctx context.Context, b bulk, key string, fingerprint []byte) (bulk, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return bulk{}, fmt.Errorf("make id: %w", err)
	}
	var made bulk
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if key != "" {
			kept, err := claimKeyTx(ctx, tx, b.Who, key, fingerprint, id)
			if err != nil {
				return err
			}
			if kept != id {
				made, err = oneBulk(ctx, tx, "select "+bulkColumns+" from dead_letter_replays where id = $1", kept)
				return err
			}
		}
		const q = `
			insert into dead_letter_replays (id, who, reason, filter, target, dry_run, force, rate_per_second, last_letter, cursor, matched)
			select $8, $9, $10, $11, $12, $13, $14, $15, coalesce((select id from dead_letters order by id desc limit 1), $16), $16,
				(select count(*) from dead_letters where status = 'open' and ` + filterCondition + `)
			returning ` + bulkColumns
		args := append(b.Filter.args(), id, b.Who, clean(b.Reason), b.Filter, b.Target, b.DryRun, b.Force, b.Rate, uuid.Nil)
		made, err = oneBulk(ctx, tx, q, args...)
		return err
	})
	return made, postgres.Classify(err)
}

// claimKeyTx binds the key to id, or gives the id it is bound to. An expired key is as good as none.
func claimKeyTx(ctx context.Context, tx pgx.Tx, operator, key string, fingerprint []byte, id uuid.UUID) (kept uuid.UUID, err error) {
	const q = `
		insert into dead_letter_replay_keys as k (operator, key, fingerprint, replay_id)
		values ($1, $2, $3, $4)
		on conflict on constraint dead_letter_replay_keys_pk do update
		set fingerprint = case when k.created_at < now() - $5::interval then excluded.fingerprint else k.fingerprint end,
		    replay_id   = case when k.created_at < now() - $5::interval then excluded.replay_id else k.replay_id end,
		    created_at  = case when k.created_at < now() - $5::interval then excluded.created_at else k.created_at end
		returning replay_id, fingerprint = $3`
	var same bool
	if err := tx.QueryRow(ctx, q, operator, key, fingerprint, id, keyLife).Scan(&kept, &same); err != nil {
		return kept, fmt.Errorf("claim idempotency key: %w", err)
	}
	if !same {
		return kept, fault.New(fault.Conflict, "idempotency_conflict", "this Idempotency-Key came with another request before")
	}
	return kept, nil
}

// forgetKeys drops idempotency keys past their life, a few at a time.
func (s *pgStore) forgetKeys(ctx context.Context) error {
	const q = `
		delete from dead_letter_replay_keys
		where (operator, key) in (select operator, key from dead_letter_replay_keys where created_at < now() - $1::interval order by created_at limit 100)`
	_, err := s.pool.Exec(ctx, q, keyLife)
	return postgres.Classify(err)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func oneBulk(ctx context.Context, db querier, q string, args ...any) (bulk, error) {
	rows, err := db.Query(ctx, q, args...)
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
	return oneBulk(ctx, s.pool, "select "+bulkColumns+" from dead_letter_replays where id = $1", id)
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

// cancelBulk ends a replay that is running, for an operator: letters that are under way are finished and counted, no other is
// begun. To cancel what the same operator has cancelled changes nothing. Conflict "not_running" if it has ended otherwise.
func (s *pgStore) cancelBulk(ctx context.Context, id uuid.UUID, who string) (bulk, error) {
	const q = `
		with ended as (
			update dead_letter_replays set status = 'cancelled', finished_at = now(), cancelled_by = $2, trouble = null
			where id = $1 and status = 'running'
			returning id),
		freed as (
			update dead_letters l set replay_id = null, replay_troubles = 0
			from ended
			where l.replay_id = ended.id and l.status <> 'replaying')
		select from ended`
	if _, err := s.pool.Exec(ctx, q, id, who); err != nil {
		return bulk{}, postgres.Classify(err)
	}
	b, err := s.bulk(ctx, id)
	if err == nil && (b.Status != "cancelled" || b.CancelledBy == nil || *b.CancelledBy != who) {
		return b, fault.New(fault.Conflict, "not_running", "the replay is %s", b.Status)
	}
	return b, err
}

// claimBulk takes a running replay that nobody advances: the one that has waited longest. ok is false if there is none. Letters
// that the process before had under way are open again, and still marked as the replay's.
func (s *pgStore) claimBulk(ctx context.Context) (b bulk, ok bool, err error) {
	const q = `
		with taken as (
			update dead_letter_replays
			set lease_token = gen_random_uuid(), lease_expires_at = now() + $1::interval
			where id = (
				select id
				from dead_letter_replays
				where status = 'running' and lease_expires_at <= now()
				order by lease_expires_at
				limit 1
				for update skip locked)
			returning *),
		opened as (
			update dead_letters l
			set status = 'open', replay_token = null
			from taken
			where l.replay_id = taken.id and l.status = 'replaying' and l.replay_expires_at is null
			returning l.id, l.replay_count, l.correction),
		noted as (` + recovered + `)
		select ` + bulkColumns + ` from taken`
	b, err = oneBulk(ctx, s.pool, q, bulkLease)
	if fault.CodeOf(err) == "replay_not_found" {
		return bulk{}, false, nil
	}
	return b, err == nil, err
}

// renew keeps a replay. ours is false if it has ended, or somebody else advances it by now.
func (s *pgStore) renew(ctx context.Context, b bulk) (ours bool, err error) {
	const q = `
		update dead_letter_replays set lease_expires_at = now() + $3::interval
		where id = $1 and lease_token = $2
		returning status = 'running'`
	err = s.pool.QueryRow(ctx, q, b.ID, b.token, bulkLease).Scan(&ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return ours, postgres.Classify(err)
}

// rest gives a replay back, due again after a while; trouble says why, if there is a reason.
func (s *pgStore) rest(ctx context.Context, b bulk, after time.Duration, trouble string) error {
	const q = `
		update dead_letter_replays set lease_token = null, lease_expires_at = now() + $3::interval, trouble = nullif($4, '')
		where id = $1 and lease_token = $2 and status = 'running'`
	_, err := s.pool.Exec(ctx, q, b.ID, b.token, after, clean(trouble))
	return postgres.Classify(err)
}

// addCounts is a JSON object of counts with those of another added, in SQL.
func addCounts(column, other string) string {
	return `(select coalesce(jsonb_object_agg(key, n), '{}') from (
			select key, sum(value::bigint) n
			from (select * from jsonb_each_text(` + column + `) union all select * from jsonb_each_text(` + other + `)) c
			group by key) sums)`
}

var completeBulk = `
		update dead_letter_replays r
		set status = 'completed', finished_at = now(), lease_token = null, trouble = null,
		    outcomes = ` + addCounts("outcomes", "m.missing") + `,
		    reasons = ` + addCounts("reasons", "m.because") + `
		from (
			select case when n > 0 then jsonb_build_object('skipped', n) else '{}' end missing,
				case when n > 0 then jsonb_build_object('not_open', n) else '{}' end because
			from (
				select matched - (select coalesce(sum(value::bigint), 0) from jsonb_each_text(outcomes)) n
				from dead_letter_replays
				where id = $1) c) m
		where id = $1 and lease_token = $2 and status = 'running' and not exists (select from dead_letters where replay_id = $1)`

// complete ends a replay whose letters all have their outcome; what others settled before its turn came counts as skipped. done is
// false if it still owes letters theirs.
func (s *pgStore) complete(ctx context.Context, b bulk) (done bool, err error) {
	tag, err := s.pool.Exec(ctx, completeBulk, b.ID, b.token)
	return tag.RowsAffected() == 1, postgres.Classify(err)
}

package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

const (
	// bulkColumns are those of [scanBulk].
	bulkColumns = `id, action, status, who, reason, filter, target, transform, dry_run, force, rate_per_second, last_letter, cursor, cursor_topic, cursor_partition,
	cursor_offset, matched, outcomes, reasons, recent, cancelled_by, stop_reason, trouble, created_at, finished_at, lease_token`

	selectBulk = "select " + bulkColumns + " from dead_letter_replays where id = $1"
)

func scanBulk(row pgx.CollectableRow) (b replay.Bulk, err error) {
	var at place
	err = row.Scan(&b.ID, &b.Action, &b.Status, &b.Who, &b.Reason, &b.Filter, &b.Target, &b.Transform, &b.DryRun, &b.Force, &b.Rate, &b.LastLetter, &b.Cursor, &at.topic, &at.partition,
		&at.offset, &b.Matched, &b.Outcomes, &b.Reasons, &b.Recent, &b.CancelledBy, &b.StopReason, &b.Trouble, &b.CreatedAt, &b.FinishedAt, &b.Lease)
	b.At = at.get()
	return b, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// oneBulk reads the only row of a query. NotFound with code replay_not_found.
func oneBulk(ctx context.Context, db querier, q string, args ...any) (replay.Bulk, error) {
	rows, err := db.Query(ctx, q, args...)
	if err != nil {
		return replay.Bulk{}, postgres.Classify(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, scanBulk)
	return b, postgres.ClassifyOne(err, errNoReplay)
}

// Bulk returns a bulk replay. NotFound with code replay_not_found.
func (s *Store) Bulk(ctx context.Context, id uuid.UUID) (replay.Bulk, error) {
	return oneBulk(ctx, s.pool, selectBulk, id)
}

// Bulks returns bulk replays, newest first, from before (exclusive; nil: from the first) on.
func (s *Store) Bulks(ctx context.Context, before *uuid.UUID, limit int) ([]replay.Bulk, error) {
	const q = "select " + bulkColumns + " from dead_letter_replays where $1::uuid is null or id < $1 order by id desc limit $2"
	rows, err := s.pool.Query(ctx, q, before, limit)
	return collect(rows, err, scanBulk)
}

// Samples returns the letters that a plan shows.
func (s *Store) Samples(ctx context.Context, id uuid.UUID) (all []replay.Sample, err error) {
	err = s.pool.QueryRow(ctx, "select samples from dead_letter_replays where id = $1", id).Scan(&all)
	return all, postgres.ClassifyOne(err, errNoReplay)
}

// Verdicts returns verdicts of a replay that are kept, by letter, from after (exclusive; nil: from the first) on. like selects those with its
// outcome and code; empty: any.
func (s *Store) Verdicts(ctx context.Context, id uuid.UUID, like letter.Verdict, after *uuid.UUID, limit int) ([]replay.LetterVerdict, error) {
	const q = `
		select letter_id, outcome, code, reason
		from dead_letter_verdicts
		where replay_id = $1 and ($2 = '' or outcome = $2) and ($3 = '' or code = $3) and ($4::uuid is null or letter_id > $4)
		order by letter_id
		limit $5`
	rows, err := s.pool.Query(ctx, q, id, like.Outcome, like.Code, after, limit)
	return collect(rows, err, func(row pgx.CollectableRow) (v replay.LetterVerdict, err error) {
		err = row.Scan(&v.ID, &v.Verdict.Outcome, &v.Verdict.Code, &v.Verdict.Reason)
		return v, err
	})
}

// verdictLife is how long verdicts are kept.
const verdictLife = 7 * 24 * time.Hour

// ForgetVerdicts deletes verdicts of old replays, up to 10,000.
func (s *Store) ForgetVerdicts(ctx context.Context) error {
	const q = `
		delete from dead_letter_verdicts
		where (replay_id, letter_id) in (select replay_id, letter_id from dead_letter_verdicts where replay_id < $1 order by replay_id limit 10000)`
	var first uuid.UUID // of that time: version 7 begins with milliseconds
	binary.BigEndian.PutUint64(first[:8], uint64(time.Now().Add(-verdictLife).UnixMilli())<<16)
	_, err := s.pool.Exec(ctx, q, first)
	return postgres.Classify(err)
}

// keyLife is how long an idempotency key is kept.
const keyLife = 24 * time.Hour

// CreateBulk creates a replay or discard of the letters that are open now, or of those whose ids are given. With a key it is created once: if the same operator sends the same key
// again, the result is the replay created before. Conflict, code idempotency_conflict, if that request had another fingerprint.
func (s *Store) CreateBulk(ctx context.Context, b replay.Bulk, key string, fingerprint []byte) (replay.Bulk, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return replay.Bulk{}, fmt.Errorf("make id: %w", err)
	}
	var made replay.Bulk
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if key != "" {
			kept, err := claimKey(ctx, tx, b.Who, key, fingerprint, id)
			if err != nil {
				return err
			}
			if kept != id {
				made, err = oneBulk(ctx, tx, selectBulk, kept)
				return err
			}
		}
		candidates := "dead_letters"
		if b.Filter.Q != "" && !b.Filter.Short() { // the index finds them; filterCondition looks again
			candidates = `(
				select l.*
				from dead_letters l
				join (
					select letter_id from dead_letter_texts where ` + like("text", "$7", "$8") + `
					union
					select letter_id from dead_letters_to_index) found on found.letter_id = l.id) l`
		}
		matched := "select count(*) from " + candidates + " where status = 'open' and " + filterCondition
		args := append(filterArgs(b.Filter), id, b.Who, letter.Clean(b.Reason), b.Filter, cmp.Or(b.Target, replay.ToFunction), b.DryRun, b.Force, b.Rate, uuid.Nil,
			cmp.Or(b.Action, replay.ActionReplay), b.Transform)
		if b.Filter.IDs != nil { // each counts, also if there is no such letter
			matched = "select count(*) from (select l.* from unnest($20::uuid[]) i (id) left join dead_letters l using (id)) l where " + filterCondition
			args = append(args, b.Filter.IDs)
		}
		q := `
			insert into dead_letter_replays (id, who, reason, filter, target, dry_run, force, rate_per_second, last_letter, cursor, matched, action, transform)
			select $9, $10, $11, $12, $13, $14, $15, $16, coalesce((select id from dead_letters order by id desc limit 1), $17), $17, (` + matched + `), $18, $19
			returning ` + bulkColumns
		made, err = oneBulk(ctx, tx, q, args...)
		return err
	})
	return made, postgres.Classify(err)
}

// claimKey binds a key to id, or returns the id that it is bound to. An expired key is bound again.
func claimKey(ctx context.Context, tx pgx.Tx, operator, key string, fingerprint []byte, id uuid.UUID) (kept uuid.UUID, err error) {
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
		return kept, fault.New(fault.Conflict, fault.CodeIdempotencyConflict, "this Idempotency-Key was used for another request")
	}
	return kept, nil
}

// ForgetKeys deletes expired idempotency keys, up to 100.
func (s *Store) ForgetKeys(ctx context.Context) error {
	const q = `
		delete from dead_letter_replay_keys
		where (operator, key) in (select operator, key from dead_letter_replay_keys where created_at < now() - $1::interval order by created_at limit 100)`
	_, err := s.pool.Exec(ctx, q, keyLife)
	return postgres.Classify(err)
}

// CancelBulk ends a running replay for an operator: letters in flight are settled and counted, no other is sent. A second call by the
// same operator changes nothing. Conflict, code not_running, if the replay has ended otherwise.
func (s *Store) CancelBulk(ctx context.Context, id uuid.UUID, who string) (replay.Bulk, error) {
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
	// Work in flight locks letters before the replay.
	if err := postgres.Retry(ctx, func() error { _, err := s.pool.Exec(ctx, q, id, who); return err }); err != nil {
		return replay.Bulk{}, postgres.Classify(err)
	}
	b, err := s.Bulk(ctx, id)
	if err == nil && (b.Status != replay.Cancelled || b.CancelledBy == nil || *b.CancelledBy != who) {
		return b, fault.New(fault.Conflict, fault.CodeNotRunning, "the replay is %s", b.Status)
	}
	return b, err
}

// ClaimBulk leases the running replay that has waited longest and that no process works on. ok is false if there is none. Letters that
// the process before had in flight are open again, and still marked as the replay's.
func (s *Store) ClaimBulk(ctx context.Context, holder string) (b replay.Bulk, ok bool, err error) {
	const q = `
		with taken as (
			update dead_letter_replays
			set lease_token = gen_random_uuid(), lease_expires_at = now() + $1::interval, claims = claims + 1, holder = $2
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
		noted as (` + auditRecovery + `)
		select ` + bulkColumns + ` from taken`
	// The last work of the process before may be in flight: it locks letters before the replay.
	err = postgres.Retry(ctx, func() error { b, err = oneBulk(ctx, s.pool, q, replay.BulkLease, holder); return err })
	if fault.CodeOf(err) == fault.CodeReplayNotFound {
		return replay.Bulk{}, false, nil
	}
	return b, err == nil, err
}

// NextDue returns how long it is until a running replay is due, if its process does not renew the lease. ok is false if none is running.
func (s *Store) NextDue(ctx context.Context) (after time.Duration, ok bool, err error) {
	const q = "select greatest(lease_expires_at - clock_timestamp(), '0') from dead_letter_replays where status = 'running' order by lease_expires_at limit 1"
	err = s.pool.QueryRow(ctx, q).Scan(&after)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return after, err == nil, postgres.Classify(err)
}

// TakeBack ends the leases of a holder that has died.
func (s *Store) TakeBack(ctx context.Context, holder string) error {
	const q = `
		update dead_letter_replays set lease_token = null, lease_expires_at = now()
		where holder = $1 and lease_token is not null and lease_expires_at > now()`
	_, err := s.pool.Exec(ctx, q, holder)
	return postgres.Classify(err)
}

// Renew extends the lease of a replay. ours is false if the replay has ended, or another process works on it.
func (s *Store) Renew(ctx context.Context, b replay.Bulk) (ours bool, err error) {
	const q = `
		update dead_letter_replays set lease_expires_at = now() + $3::interval
		where id = $1 and lease_token = $2
		returning status = 'running'`
	err = s.pool.QueryRow(ctx, q, b.ID, b.Lease, replay.BulkLease).Scan(&ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return ours, postgres.Classify(err)
}

// Rest ends the lease of a replay, which is due again after a while. trouble says why it is paused; empty: it is not.
func (s *Store) Rest(ctx context.Context, b replay.Bulk, after time.Duration, trouble string) error {
	const q = `
		update dead_letter_replays set lease_token = null, lease_expires_at = now() + $3::interval, trouble = nullif($4, '')
		where id = $1 and lease_token = $2 and status = 'running'`
	_, err := s.pool.Exec(ctx, q, b.ID, b.Lease, after, letter.Clean(trouble))
	return postgres.Classify(err)
}

var completeBulk = `
		update dead_letter_replays r
		set status = 'completed', finished_at = now(), lease_token = null, trouble = null,
		    outcomes = ` + addCounts("outcomes", "m.missing") + `,
		    reasons = ` + addCounts("reasons", "m.because") + `
		from (
			select case when n > 0 then jsonb_build_object('skipped', n) else '{}' end missing,
				case when n > unknown then jsonb_build_object('not_open', n - unknown) else '{}' end ||
				case when unknown > 0 then jsonb_build_object('message_not_found', unknown) else '{}' end because
			from (
				select matched - (select coalesce(sum(value::bigint), 0) from jsonb_each_text(outcomes)) n,
					(select count(*) from jsonb_array_elements_text(filter->'ids') i (id) where not exists (select from dead_letters where id = i.id::uuid)) unknown
				from dead_letter_replays
				where id = $1) c) m
		where id = $1 and lease_token = $2 and status = 'running' and not exists (select from dead_letters where replay_id = $1)`

// Complete ends a replay whose letters all have an outcome. Letters that were settled elsewhere before the replay came to them count as
// skipped. done is false if a letter still waits for its outcome.
func (s *Store) Complete(ctx context.Context, b replay.Bulk) (done bool, err error) {
	tag, err := s.pool.Exec(ctx, completeBulk, b.ID, b.Lease)
	return tag.RowsAffected() == 1, postgres.Classify(err)
}

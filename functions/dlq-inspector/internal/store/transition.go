package store

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

// Transition changes a letter under its lock, with an entry in the audit trail, in one transaction, and returns the letter as it is
// afterwards. An error of c.Apply leaves everything unchanged. While the database is unavailable, the change is tried again. An id in
// its audit entry shows whether an earlier attempt was committed although the answer was lost: a change is made once, and one that was
// made is never reported as an error. Errors: those of c.Apply; NotFound, code message_not_found; Unavailable.
func (s *Store) Transition(ctx context.Context, id uuid.UUID, c letter.Change) (l letter.Stored, err error) {
	changeID, again := uuid.New(), false
	err = fault.Insist(ctx, func(ctx context.Context) error {
		var err error
		l, err = s.tryTransition(ctx, id, c, changeID, again)
		again = true
		return postgres.ClassifyOne(err, errNoLetter)
	})
	return l, err
}

// tryTransition is one attempt. again says that an earlier one may have been committed.
func (s *Store) tryTransition(ctx context.Context, id uuid.UUID, c letter.Change, changeID uuid.UUID, again bool) (l letter.Stored, err error) {
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lockLetter, id)
		if err != nil {
			return err
		}
		if l, err = pgx.CollectExactlyOneRow(rows, scanStored); err != nil {
			return err
		}
		if again {
			var made bool
			const q = "select exists (select from dead_letter_audit where letter_id = $1 and change_id = $2)"
			if err := tx.QueryRow(ctx, q, id, changeID).Scan(&made); err != nil || made {
				return err
			}
		}
		before := l.State
		if l.State, err = c.Apply(l); err != nil {
			return err
		}
		return writeChange(ctx, tx, id, c, changeID, before, l.State)
	})
	return l, err
}

func writeChange(ctx context.Context, tx pgx.Tx, id uuid.UUID, c letter.Change, changeID uuid.UUID, before, after letter.State) error {
	const update = `
		update dead_letters
		set status = $2, replay_count = $3, correction = $4, replay_token = $5, replay_expires_at = now() + $6::interval
		where id = $1`
	if _, err := tx.Exec(ctx, update, id, after.Status, after.ReplayCount, after.Correction, after.Token, after.Lease); err != nil {
		return err
	}
	b, err := json.Marshal(before)
	if err != nil {
		return err
	}
	a, err := json.Marshal(after)
	if err != nil {
		return err
	}
	const audit = `
		insert into dead_letter_audit (letter_id, who, action, reason, before, after, value, change_id)
		values ($1, $2, $3, $4, $5, $6, $7, $8)`
	if _, err := tx.Exec(ctx, audit, id, c.Who, c.Action, letter.Clean(c.Reason), b, a, c.Value, changeID); err != nil {
		return err
	}
	if c.Failure == nil {
		return nil
	}
	return addFailure(ctx, tx, id, *c.Failure)
}

// auditRecovery writes the audit entries of letters that were opened without a verdict. It is a part of a statement that has them in
// "opened".
const auditRecovery = `
		insert into dead_letter_audit (letter_id, who, action, reason, before, after)
		select id, 'dlq-inspector', 'recover', 'the replay did not report back',
			jsonb_build_object('status', 'replaying', 'replay_count', replay_count, 'correction', correction),
			jsonb_build_object('status', 'open', 'replay_count', replay_count, 'correction', correction)
		from opened`

// RecoverReplays opens letters whose replay ended with the process that ran it: the outcome is unknown, and a second delivery is
// harmless. A bulk replay recovers its own letters while it is running; if it is cancelled and its process dies, they are recovered
// here, too.
func (s *Store) RecoverReplays(ctx context.Context) error {
	const single = `
		with opened as (
			update dead_letters
			set status = 'open', replay_token = null, replay_expires_at = null
			where status = 'replaying' and replay_expires_at < now()
			returning id, replay_count, correction)` + auditRecovery
	const bulk = `
		with ended as (
			select l.id, l.status = 'replaying' and l.replay_expires_at is null stuck
			from dead_letters l
			left join dead_letter_replays r on r.id = l.replay_id
			where l.replay_id is not null and (r.id is null or r.status <> 'running' and r.lease_expires_at < now())
			for update of l skip locked),
		freed as (
			update dead_letters l
			set replay_id = null, replay_troubles = 0,
			    status = case when stuck then 'open' else l.status end, replay_token = case when stuck then null else l.replay_token end
			from ended
			where l.id = ended.id
			returning l.id, l.replay_count, l.correction, stuck),
		opened as (select * from freed where stuck)` + auditRecovery
	var both pgx.Batch
	both.Queue(single)
	both.Queue(bulk)
	return postgres.Classify(s.pool.SendBatch(ctx, &both).Close())
}

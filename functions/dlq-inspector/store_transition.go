package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

// change is one step in a letter's life, with what the audit trail says of it.
type change struct {
	who, action, reason string
	value               []byte   // what an edited replay sends
	failure             *failure // of a replay that was refused
	apply               func(stored) (state, error)
}

// How long a change is tried again after trouble with the database, and how often.
const (
	changeTries   = 6
	changeTimeout = 8 * time.Second
)

// transition changes a letter's state under its lock and writes the audit trail, in one transaction, and gives the letter as it
// is then. An error of apply leaves everything as it was. After trouble with the database the change is tried again: an id in
// its audit entry tells whether the attempt before was committed although its answer was lost, so that a change is made once,
// and one that was made is never answered as a failure. NotFound "message_not_found"; else what apply says, or Unavailable.
func (s *pgStore) transition(ctx context.Context, id uuid.UUID, c change) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	changeID := uuid.New()
	for try := 0; ; try++ {
		l, err := s.tryTransition(ctx, id, c, changeID, try > 0)
		err = notFound(err)
		if err == nil || fault.KindOf(err) != fault.Unavailable || try == changeTries-1 {
			return l, err
		}
		select {
		case <-ctx.Done():
			return stored{}, err
		case <-time.After(100 * time.Millisecond << try):
		}
	}
}

func (s *pgStore) tryTransition(ctx context.Context, id uuid.UUID, c change, changeID uuid.UUID, again bool) (l stored, err error) {
	err = postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "select "+storedColumns+" from dead_letters where id = $1 for update", id)
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
		before := l.state
		if l.state, err = c.apply(l); err != nil {
			return err
		}
		return s.write(ctx, tx, id, c, changeID, before, l.state)
	})
	return l, err
}

func (s *pgStore) write(ctx context.Context, tx pgx.Tx, id uuid.UUID, c change, changeID uuid.UUID, before, after state) error {
	const update = `
		update dead_letters
		set status = $2, replay_count = $3, correction = $4, replay_token = $5, replay_expires_at = now() + $6::interval
		where id = $1`
	if _, err := tx.Exec(ctx, update, id, after.Status, after.ReplayCount, after.Correction, after.token, after.lease); err != nil {
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
	if _, err := tx.Exec(ctx, audit, id, c.who, c.action, clean(c.reason), b, a, c.value, changeID); err != nil {
		return err
	}
	if c.failure == nil {
		return nil
	}
	return addFailure(ctx, tx, id, *c.failure, nil)
}

// recovered is the audit entry of letters that are open again without a verdict.
const recovered = `
		insert into dead_letter_audit (letter_id, who, action, reason, before, after)
		select id, 'dlq-inspector', 'recover', 'the replay did not report back',
			jsonb_build_object('status', 'replaying', 'replay_count', replay_count, 'correction', correction),
			jsonb_build_object('status', 'open', 'replay_count', replay_count, 'correction', correction)
		from opened`

// recoverReplays opens letters whose replay ended with the process that ran it: its outcome is unknown, and to replay them once
// more is harmless. A replay of many recovers its own as long as it is running; what it leaves behind when it is cancelled and
// its process dies is recovered here, too.
func (s *pgStore) recoverReplays(ctx context.Context) error {
	const alone = `
		with opened as (
			update dead_letters
			set status = 'open', replay_token = null, replay_expires_at = null
			where status = 'replaying' and replay_expires_at < now()
			returning id, replay_count, correction)` + recovered
	const left = `
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
		opened as (select * from freed where stuck)` + recovered
	var both pgx.Batch
	both.Queue(alone)
	both.Queue(left)
	return postgres.Classify(s.pool.SendBatch(ctx, &both).Close())
}

// auditEntry is one change of a letter.
type auditEntry struct {
	At     time.Time
	Who    string
	Action string
	Reason string
	Before json.RawMessage
	After  json.RawMessage
	Size   *int   // of the value that an edited replay sent; nil: no value was sent
	Value  []byte // nil if it is too old to be shown
}

// maxTrailBytes is what the values in one letter's trail may have together: the newest are shown.
const maxTrailBytes = 2 << 20

// trail reads the newest changes of a letter, oldest first.
func (s *pgStore) trail(ctx context.Context, id uuid.UUID) ([]auditEntry, error) {
	const q = `
		select at, who, action, reason, before, after, size, case when total <= $2 then value end
		from (
			select *, octet_length(value) size, sum(octet_length(value)) over (order by id desc) total
			from (select * from dead_letter_audit where letter_id = $1 order by id desc limit 1000) newest) sized
		order by id`
	rows, err := s.pool.Query(ctx, q, id, maxTrailBytes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[auditEntry])
}

// auditBody is a change of a letter in an answer.
type auditBody struct {
	At            time.Time       `json:"at"`
	Who           string          `json:"who"`
	Action        string          `json:"action"`
	Reason        string          `json:"reason,omitempty"`
	Before        json.RawMessage `json:"before"`
	After         json.RawMessage `json:"after"`
	Value         *string         `json:"value,omitempty" doc:"What an edited replay sent; the newest edits are shown, up to 2 MiB together"`
	ValueEncoding string          `json:"value_encoding,omitempty" enum:"text,base64"`
	ValueBytes    *int            `json:"value_bytes,omitempty" doc:"Size of what an edited replay sent"`
}

func auditOf(trail []auditEntry) []auditBody {
	out := make([]auditBody, len(trail))
	for i, e := range trail {
		out[i] = auditBody{At: e.At.UTC(), Who: e.Who, Action: e.Action, Reason: e.Reason, Before: e.Before, After: e.After, ValueBytes: e.Size}
		if e.Value != nil {
			text, encoding := encode(e.Value)
			out[i].Value, out[i].ValueEncoding = &text, encoding
		}
	}
	return out
}

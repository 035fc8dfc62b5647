package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/deadletter"
)

// addFailures records one more refusal of each letter, unless its dead letter record is known. A letter that was sent, and whose copy
// was refused, is open again; a letter that an operator settled stays settled. fresh are letters whose first failure is counted.
func addFailures(ctx context.Context, tx pgx.Tx, entries []*entry, fresh map[uuid.UUID]bool) error {
	if len(entries) == 0 {
		return nil
	}
	at := func(e *entry) place { // of the dead letter record
		p := columnsOf(e.At)
		if e.At != nil {
			p.topic = new(letter.Indexable(e.At.Topic))
		}
		return p
	}
	origin := func(e *entry) place { // of a copy
		if !e.copied {
			return place{}
		}
		return e.origin
	}
	const q = `
		insert into dead_letter_failures
			(letter_id, dlq_topic, dlq_partition, dlq_offset, code, reason, function, failed_at, topic, partition, record_offset)
		select letter_id, dlq_topic, dlq_partition, dlq_offset, code, reason, function, failed_at, topic, partition, record_offset
		from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[], $10::int[], $11::bigint[])
			with ordinality f(letter_id, dlq_topic, dlq_partition, dlq_offset, code, reason, function, failed_at, topic, partition, record_offset, n)
		order by n
		on conflict on constraint dead_letter_failures_record do nothing
		returning letter_id, code, reason, failed_at, record_offset is not null`
	rows, err := tx.Query(ctx, q, uuids(entries, func(e *entry) uuid.UUID { return e.id }),
		column(entries, func(e *entry) *string { return at(e).topic }), column(entries, func(e *entry) *int32 { return at(e).partition }),
		column(entries, func(e *entry) *int64 { return at(e).offset }),
		column(entries, func(e *entry) string { return e.Failure.Code }), column(entries, func(e *entry) string { return e.Failure.Reason }),
		column(entries, func(e *entry) string { return e.Failure.Function }), column(entries, func(e *entry) time.Time { return e.Failure.FailedAt }),
		column(entries, func(e *entry) *string { return origin(e).topic }), column(entries, func(e *entry) *int32 { return origin(e).partition }),
		column(entries, func(e *entry) *int64 { return origin(e).offset }))
	if err != nil {
		return fmt.Errorf("record failures: %w", err)
	}
	more := map[uuid.UUID]*refusals{}
	var id uuid.UUID
	var f deadletter.Failure
	var copied bool
	if _, err := pgx.ForEachRow(rows, []any{&id, &f.Code, &f.Reason, &f.FailedAt, &copied}, func() error {
		if fresh[id] {
			delete(fresh, id) // counted when the letter was stored
			return nil
		}
		if more[id] == nil {
			more[id] = &refusals{id: id, first: f.FailedAt}
		}
		more[id].add(f, copied)
		return nil
	}); err != nil {
		return fmt.Errorf("record failures: %w", err)
	}
	return countFailures(ctx, tx, more)
}

// refusals are those of one batch of a letter that was stored before.
type refusals struct {
	id          uuid.UUID
	n           int
	latest      deadletter.Failure
	first, last time.Time
	copied      bool // one of them is the refusal of a copy
}

func (r *refusals) add(f deadletter.Failure, copied bool) {
	r.n++
	r.latest, r.copied = f, r.copied || copied
	if f.FailedAt.Before(r.first) {
		r.first = f.FailedAt
	}
	if f.FailedAt.After(r.last) {
		r.last = f.FailedAt
	}
}

func countFailures(ctx context.Context, tx pgx.Tx, more map[uuid.UUID]*refusals) error {
	if len(more) == 0 {
		return nil
	}
	var all []*refusals
	for _, r := range more {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *refusals) int { return bytes.Compare(a.id[:], b.id[:]) })
	var ids, returned []uuid.UUID
	var counts []int
	var codes, reasons, fingerprints []string
	var firsts, lasts []time.Time
	for _, r := range all {
		ids, counts = append(ids, r.id), append(counts, r.n)
		codes, reasons = append(codes, r.latest.Code), append(reasons, r.latest.Reason)
		fingerprints = append(fingerprints, letter.Fingerprint(r.latest.Code, r.latest.Reason))
		firsts, lasts = append(firsts, r.first), append(lasts, r.last)
		if r.copied {
			returned = append(returned, r.id)
		}
	}
	if err := reopenSent(ctx, tx, returned); err != nil {
		return err
	}
	const count = `
		update dead_letters l
		set failure_count = l.failure_count + f.n, code = f.code, reason = f.reason, fingerprint = f.fingerprint,
		    first_failed_at = least(l.first_failed_at, f.first), last_failed_at = greatest(l.last_failed_at, f.last)
		from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[]) f(id, n, code, reason, fingerprint, first, last)
		where l.id = f.id and l.id = any($1::uuid[])`
	if _, err := tx.Exec(ctx, count, ids, counts, codes, reasons, fingerprints, firsts, lasts); err != nil {
		return fmt.Errorf("count failures: %w", err)
	}
	return nil
}

// reopenSent opens letters again whose copy was refused, if they are still sent.
func reopenSent(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	const q = `
		with returned as (
			update dead_letters set status = 'open'
			where id = any($1::uuid[]) and status = 'sent'
			returning id)
		insert into dead_letter_audit (letter_id, who, action, reason, before, after)
		select id, 'dlq-inspector', 'reopen', 'the copy that was sent was refused', '{"status":"sent"}', '{"status":"open"}' from returned`
	if _, err := tx.Exec(ctx, q, ids); err != nil {
		return fmt.Errorf("open letters again: %w", err)
	}
	return nil
}

// addFailure records the failure of a letter that a replay delivered.
func addFailure(ctx context.Context, tx pgx.Tx, id uuid.UUID, f deadletter.Failure) error {
	const insert = `
		insert into dead_letter_failures (letter_id, code, reason, function, failed_at)
		values ($1, $2, $3, $4, $5)`
	if _, err := tx.Exec(ctx, insert, id, f.Code, f.Reason, f.Function, f.FailedAt); err != nil {
		return fmt.Errorf("record failure: %w", err)
	}
	const count = `
		update dead_letters
		set failure_count = failure_count + 1, code = $2, reason = $3, fingerprint = $4,
		    first_failed_at = least(first_failed_at, $5), last_failed_at = greatest(last_failed_at, $5)
		where id = $1`
	if _, err := tx.Exec(ctx, count, id, f.Code, f.Reason, letter.Fingerprint(f.Code, f.Reason), f.FailedAt); err != nil {
		return fmt.Errorf("count failure: %w", err)
	}
	return nil
}

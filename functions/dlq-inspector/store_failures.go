package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
)

// findCopies finds letters whose record is a copy that a replay sent to its topic: its refusal is a failure of the letter that was
// sent, not a letter of its own. A copy is known by the place that an earlier refusal of it told, else by being the same event, in key,
// value and headers, as a letter that is sent. While the replay is under way the refusal must come again: it would be forgotten.
func findCopies(ctx context.Context, tx pgx.Tx, entries []*entry) error {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return !e.Exact })
	if len(entries) == 0 {
		return nil
	}
	const q = `
		select p.n, l.id, l.status, l.topic, l.key, l.headers, false
		from unnest($1::bytea[]) with ordinality p(sum, n)
		cross join lateral (
			select id, status, topic, key, headers
			from dead_letters
			where value_sha256 = p.sum and status in ('sent', 'replaying') and exact
			limit 10) l
		union all
		select p.n, f.letter_id, '', '', null, '[]', true
		from unnest($2::text[], $3::int[], $4::bigint[]) with ordinality p(topic, partition, record_offset, n)
		cross join lateral (
			select letter_id
			from dead_letter_failures
			where topic = p.topic and partition = p.partition and record_offset = p.record_offset
			limit 1) f`
	rows, err := tx.Query(ctx, q, column(entries, func(e *entry) []byte { return e.sum }), column(entries, func(e *entry) *string { return e.topic }),
		column(entries, func(e *entry) *int32 { return e.partition }), column(entries, func(e *entry) *int64 { return e.offset }))
	if err != nil {
		return fmt.Errorf("find copies: %w", err)
	}
	var n int
	var id uuid.UUID
	var status, topic string
	var key, headers []byte
	var told bool
	_, err = pgx.ForEachRow(rows, []any{&n, &id, &status, &topic, &key, &headers, &told}, func() error {
		e := entries[n-1]
		switch {
		case !told && (topic != *e.topic || !isCopy(e, key, headers)):
		case status == "replaying":
			if !e.copied {
				e.refused = fault.New(fault.Unavailable, "replay_under_way", "the letter of this record is being replayed").After(time.Second)
			}
		default:
			e.id, e.copied, e.refused = id, true, nil
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find copies: %w", err)
	}
	return withoutOwn(ctx, tx, entries)
}

// withoutOwn takes out those that have a letter of their own: two records may be the same event without one being the other's copy.
func withoutOwn(ctx context.Context, tx pgx.Tx, entries []*entry) error {
	for _, e := range entries {
		if !e.copied && e.refused == nil {
			continue
		}
		var own bool
		const q = `
			select exists (
				select from dead_letters
				where topic = $1 and partition = $2 and record_offset = $3 and value_sha256 = $4 and record_offset is not null)`
		if err := tx.QueryRow(ctx, q, e.topic, e.partition, e.offset, e.sum).Scan(&own); err != nil {
			return fmt.Errorf("find letter: %w", err)
		}
		if own {
			e.copied, e.refused = false, nil
		}
	}
	return nil
}

func isCopy(e *entry, key, headers []byte) bool {
	var sent []header
	if json.Unmarshal(headers, &sent) != nil || len(sent) != len(e.Headers) || !bytes.Equal(key, e.Key) || (key == nil) != (e.Key == nil) {
		return false
	}
	for i, h := range sent {
		if k := h.kafka(); k.Name != e.Headers[i].Name || !bytes.Equal(k.Value, e.Headers[i].Value) || (k.Value == nil) != (e.Headers[i].Value == nil) {
			return false
		}
	}
	return true
}

// addFailures records one more refusal of each letter, unless its dead letter record is known already. A letter that was sent to its
// topic, and whose copy comes back, is open again; what an operator settled stays settled.
func addFailures(ctx context.Context, tx pgx.Tx, entries []*entry, fresh map[uuid.UUID]bool) error {
	if len(entries) == 0 {
		return nil
	}
	at := func(e *entry) (topic *string, partition *int32, offset *int64) {
		if e.at == nil {
			return nil, nil, nil
		}
		return new(indexable(e.at.Topic)), &e.at.Partition, &e.at.Offset
	}
	origin := func(e *entry) (topic *string, partition *int32, offset *int64) {
		if !e.copied {
			return nil, nil, nil
		}
		return e.topic, e.partition, e.offset
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
	rows, err := tx.Query(ctx, q, column(entries, func(e *entry) uuid.UUID { return e.id }),
		column(entries, func(e *entry) *string { v, _, _ := at(e); return v }), column(entries, func(e *entry) *int32 { _, v, _ := at(e); return v }),
		column(entries, func(e *entry) *int64 { _, _, v := at(e); return v }),
		column(entries, func(e *entry) string { return e.failure.Code }), column(entries, func(e *entry) string { return e.failure.Reason }),
		column(entries, func(e *entry) string { return e.failure.Function }), column(entries, func(e *entry) time.Time { return e.failure.FailedAt }),
		column(entries, func(e *entry) *string { v, _, _ := origin(e); return v }), column(entries, func(e *entry) *int32 { _, v, _ := origin(e); return v }),
		column(entries, func(e *entry) *int64 { _, _, v := origin(e); return v }))
	if err != nil {
		return fmt.Errorf("record failures: %w", err)
	}
	more := map[uuid.UUID]*refusals{}
	var id uuid.UUID
	var f failure
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

// refusals are what a letter that was here before gets of one batch.
type refusals struct {
	id          uuid.UUID
	n           int
	latest      failure
	first, last time.Time
	copied      bool // one of them is of a copy
}

func (r *refusals) add(f failure, copied bool) {
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
	var ids []uuid.UUID
	var counts []int
	var codes, reasons, fingerprints []string
	var firsts, lasts []time.Time
	var copied []bool
	for _, r := range all {
		ids, counts, copied = append(ids, r.id), append(counts, r.n), append(copied, r.copied)
		codes, reasons, fingerprints = append(codes, r.latest.Code), append(reasons, r.latest.Reason), append(fingerprints, fingerprint(r.latest))
		firsts, lasts = append(firsts, r.first), append(lasts, r.last)
	}
	const reopen = `
		with returned as (
			update dead_letters set status = 'open'
			where id = any($1::uuid[]) and status = 'sent'
			returning id)
		insert into dead_letter_audit (letter_id, who, action, reason, before, after)
		select id, 'dlq-inspector', 'reopen', 'the copy that was sent was refused', '{"status":"sent"}', '{"status":"open"}' from returned`
	var returned []uuid.UUID
	for i, id := range ids {
		if copied[i] {
			returned = append(returned, id)
		}
	}
	if len(returned) > 0 {
		if _, err := tx.Exec(ctx, reopen, returned); err != nil {
			return fmt.Errorf("open letters again: %w", err)
		}
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

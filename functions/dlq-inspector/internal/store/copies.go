package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
)

// findCopies finds entries whose record is a copy that a replay sent to its topic. Such a refusal is a failure of the letter that was
// sent, not a new letter. A copy is known by its origin if it was refused before, otherwise because key, value and headers equal those
// of a letter that is sent. While that letter is still being replayed, the entry is refused: stored now, its failure would be lost.
func findCopies(ctx context.Context, tx pgx.Tx, entries []*entry, refused []error) error {
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
	rows, err := tx.Query(ctx, q, column(entries, func(e *entry) []byte { return e.sum }), column(entries, func(e *entry) *string { return e.origin.topic }),
		column(entries, func(e *entry) *int32 { return e.origin.partition }), column(entries, func(e *entry) *int64 { return e.origin.offset }))
	if err != nil {
		return fmt.Errorf("find copies: %w", err)
	}
	var n int
	var id uuid.UUID
	var status letter.Status
	var topic string
	var key, headers []byte
	var byOrigin bool
	_, err = pgx.ForEachRow(rows, []any{&n, &id, &status, &topic, &key, &headers, &byOrigin}, func() error {
		e := entries[n-1]
		switch {
		case !byOrigin && (topic != *e.origin.topic || !isCopy(e, key, headers)):
		case status == letter.Replaying:
			if !e.copied {
				refused[e.n] = fault.New(fault.Unavailable, fault.CodeReplayUnderWay, "the letter of this record is being replayed").After(time.Second)
			}
		default:
			e.id, e.copied, refused[e.n] = id, true, nil
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find copies: %w", err)
	}
	return withoutOwn(ctx, tx, entries, refused)
}

// withoutOwn corrects findCopies for records that have a letter of their own: two records may be the same event although neither is a
// copy of the other.
func withoutOwn(ctx context.Context, tx pgx.Tx, entries []*entry, refused []error) error {
	for _, e := range entries {
		if !e.copied && refused[e.n] == nil {
			continue
		}
		var own bool
		const q = `
			select exists (
				select from dead_letters
				where topic = $1 and partition = $2 and record_offset = $3 and value_sha256 = $4 and record_offset is not null)`
		if err := tx.QueryRow(ctx, q, e.origin.topic, e.origin.partition, e.origin.offset, e.sum).Scan(&own); err != nil {
			return fmt.Errorf("find letter: %w", err)
		}
		if own {
			e.copied, refused[e.n] = false, nil
		}
	}
	return nil
}

// isCopy reports whether the entry has the key and the headers of a letter that was sent.
func isCopy(e *entry, key, headers []byte) bool {
	var sent []letter.Header
	if json.Unmarshal(headers, &sent) != nil || len(sent) != len(e.Headers) || !bytes.Equal(key, e.Key) || (key == nil) != (e.Key == nil) {
		return false
	}
	for i, h := range letter.KafkaHeaders(sent) {
		if h.Name != e.Headers[i].Name || !bytes.Equal(h.Value, e.Headers[i].Value) || (h.Value == nil) != (e.Headers[i].Value == nil) {
			return false
		}
	}
	return true
}

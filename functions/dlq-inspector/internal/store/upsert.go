package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/dlq-inspector/internal/letter"
)

// identityKey is equal for two entries of one letter: the origin if it is known, otherwise source and id; and the value.
type identityKey struct {
	topic, source, event string
	partition            int32
	offset               int64 // -1: the origin is unknown
	sum                  [sha256.Size]byte
}

func (e *entry) identity() identityKey {
	if e.Origin != nil {
		return identityKey{topic: *e.origin.topic, partition: e.Origin.Partition, offset: e.Origin.Offset, sum: [sha256.Size]byte(e.sum)}
	}
	return identityKey{source: e.source, event: e.event, offset: -1, sum: [sha256.Size]byte(e.sum)}
}

// storeLetters stores the letters that are new, each with its first failure counted, and sets the id of every entry. fresh has the ids
// of the new letters.
func storeLetters(ctx context.Context, tx pgx.Tx, entries []*entry) (fresh map[uuid.UUID]bool, err error) {
	ids, fresh := map[identityKey]uuid.UUID{}, map[uuid.UUID]bool{}
	byOrigin, byEvent := []*entry{}, []*entry{}
	for _, e := range entries {
		if _, twice := ids[e.identity()]; twice || e.copied {
			continue
		}
		ids[e.identity()] = uuid.Nil
		if e.Origin != nil {
			byOrigin = append(byOrigin, e)
		} else {
			byEvent = append(byEvent, e)
		}
	}
	if err := upsertLetters(ctx, tx, upsertByOrigin, byOrigin, ids, fresh); err != nil {
		return nil, err
	}
	if err := upsertLetters(ctx, tx, upsertByEvent, byEvent, ids, fresh); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.copied {
			e.id = ids[e.identity()]
		}
	}
	return fresh, nil
}

// A letter that is known keeps everything; its row is locked.
const (
	insertLetters = `
		insert into dead_letters as l
			(id, topic, partition, record_offset, recorded_at, exact, event_source, event_id, value_sha256, key, value, headers,
			 attributes, content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, correction, failure_count)
		select id, topic, partition, record_offset, recorded_at, exact, source, event, sum, key, value, headers::jsonb,
			attributes::jsonb, content_type, code, reason, fingerprint, nullif(symbol, ''), failed_at, failed_at, correction, 1
		from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::text[], $8::text[], $9::bytea[], $10::bytea[], $11::bytea[],
			$12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::timestamptz[], $20::int[])
			with ordinality a(id, topic, partition, record_offset, recorded_at, exact, source, event, sum, key, value,
			headers, attributes, content_type, code, reason, fingerprint, symbol, failed_at, correction, n)
		order by n`
	returningIdentity = `
		returning id, xmax = 0, coalesce(topic, ''), coalesce(partition, 0), coalesce(record_offset, -1), event_source, event_id, value_sha256`

	upsertByOrigin = insertLetters + `
		on conflict (topic, partition, record_offset, value_sha256) where record_offset is not null do update set id = l.id` + returningIdentity
	upsertByEvent = insertLetters + `
		on conflict (event_source, event_id, value_sha256) where record_offset is null do update set id = l.id` + returningIdentity
)

// upsertLetters stores letters with one of the upserts above, each letter once.
func upsertLetters(ctx context.Context, tx pgx.Tx, upsert string, entries []*entry, ids map[identityKey]uuid.UUID, fresh map[uuid.UUID]bool) error {
	if len(entries) == 0 {
		return nil
	}
	args, err := letterColumns(entries)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, upsert, args...)
	if err != nil {
		return fmt.Errorf("store letters: %w", err)
	}
	var id uuid.UUID
	var isNew bool
	var one identityKey
	var sum []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &isNew, &one.topic, &one.partition, &one.offset, &one.source, &one.event, &sum}, func() error {
		one.sum = [sha256.Size]byte(sum)
		if one.offset >= 0 {
			one.source, one.event = "", ""
		}
		ids[one] = id
		if isNew {
			fresh[id] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store letters: %w", err)
	}
	return nil
}

// fingerprints returns a function for [column]. It keeps the last fingerprint: a flood has one cause, and the masks take a while.
func fingerprints() func(e *entry) string {
	var code, reason, last string
	return func(e *entry) string {
		if last == "" || e.Failure.Code != code || e.Failure.Reason != reason {
			code, reason = e.Failure.Code, e.Failure.Reason
			last = letter.Fingerprint(code, reason)
		}
		return last
	}
}

// letterColumns returns the arrays of [insertLetters].
func letterColumns(entries []*entry) ([]any, error) {
	ids := make(pgtype.FlatArray[pgtype.UUID], len(entries))
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make id: %w", err)
		}
		ids[i] = pgtype.UUID{Bytes: id, Valid: true}
	}
	recorded := func(e *entry) *time.Time {
		if e.RecordedAt.IsZero() {
			return nil
		}
		return &e.RecordedAt
	}
	return []any{
		ids,
		column(entries, func(e *entry) *string { return e.origin.topic }),
		column(entries, func(e *entry) *int32 { return e.origin.partition }),
		column(entries, func(e *entry) *int64 { return e.origin.offset }),
		column(entries, recorded),
		column(entries, func(e *entry) bool { return e.Exact }),
		column(entries, func(e *entry) string { return e.source }),
		column(entries, func(e *entry) string { return e.event }),
		column(entries, func(e *entry) []byte { return e.sum }),
		column(entries, func(e *entry) []byte { return e.Key }),
		column(entries, func(e *entry) []byte { return e.Value }),
		column(entries, func(e *entry) string { return e.headers }),
		column(entries, func(e *entry) string { return e.attributes }),
		column(entries, func(e *entry) string { return letter.Clean(e.ContentType) }),
		column(entries, func(e *entry) string { return e.Failure.Code }),
		column(entries, func(e *entry) string { return e.Failure.Reason }),
		column(entries, fingerprints()),
		column(entries, func(e *entry) string { return e.Symbol }),
		column(entries, func(e *entry) time.Time { return e.Failure.FailedAt }),
		column(entries, func(e *entry) int { return e.Correction() }),
	}, nil
}

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/postgres"
)

// entry is an arrival on its way into the tables.
type entry struct {
	arrival

	id                  uuid.UUID // of its letter
	sum                 []byte    // SHA-256 of the value
	source, event       string
	topic               *string
	partition           *int32
	offset              *int64
	headers, attributes string // JSON
	known               bool   // the dead letter record was here before
	copied              bool   // its record is a copy that a replay sent; id is that of the letter that was sent
	refused             error  // it is to come again
}

// save stores letters that came at the same time, in one transaction of a few statements: those that are new, and for those of an
// identity that is here already one more failure. The idempotency key of a failure is the place of its dead letter record: the same
// record again is nothing new. The result has an error for each letter that must come again. Errors are those of pgx: unknown means
// try again.
func (s *pgStore) save(ctx context.Context, all []arrival) ([]error, error) {
	entries := make([]*entry, len(all))
	for i, a := range all {
		e, err := newEntry(a)
		if err != nil {
			return nil, err
		}
		entries[i] = e
	}
	err := postgres.Retry(ctx, func() error {
		for _, e := range entries {
			e.known, e.copied, e.refused = false, false, nil
		}
		return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error { return saveTx(ctx, tx, entries) })
	})
	refused := make([]error, len(all))
	for i, e := range entries {
		refused[i] = e.refused
	}
	return refused, err
}

func newEntry(a arrival) (*entry, error) {
	headers, err := json.Marshal(wireHeaders(a.Headers))
	if err != nil {
		return nil, fmt.Errorf("encode headers: %w", err)
	}
	attributes, err := json.Marshal(a.Attributes)
	if err != nil {
		return nil, fmt.Errorf("encode attributes: %w", err)
	}
	sum := sha256.Sum256(a.Value)
	e := &entry{
		arrival: a, sum: sum[:], source: indexable(a.Attributes["source"]), event: indexable(a.Attributes["id"]),
		headers: string(headers), attributes: string(attributes),
	}
	if a.Origin != nil {
		e.topic, e.partition, e.offset = new(indexable(a.Origin.Topic)), &a.Origin.Partition, &a.Origin.Offset
	}
	return e, nil
}

// saveTx takes letters in the order of their identity: two replicas that store the same ones wait for each other instead of blocking
// each other.
func saveTx(ctx context.Context, tx pgx.Tx, entries []*entry) error {
	if err := markKnown(ctx, tx, entries); err != nil {
		return err
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return e.known })
	slices.SortStableFunc(entries, byIdentity)
	if err := findCopies(ctx, tx, entries); err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return e.refused != nil })
	fresh, err := storeLetters(ctx, tx, entries)
	if err != nil {
		return err
	}
	return addFailures(ctx, tx, entries, fresh)
}

func byIdentity(a, b *entry) int {
	if a.Origin != nil && b.Origin != nil && a.Origin.Offset != b.Origin.Offset {
		return int(min(max(a.Origin.Offset-b.Origin.Offset, -1), 1))
	}
	return strings.Compare(string(a.sum)+a.event, string(b.sum)+b.event)
}

// column gives one value of each entry: an array for a statement.
func column[T any](entries []*entry, value func(e *entry) T) []T {
	out := make([]T, len(entries))
	for i, e := range entries {
		out[i] = value(e)
	}
	return out
}

// markKnown finds dead letter records that were here before, with this very event (its value, and its source and id or its place): the places of a topic that was made anew begin at 0
// again. A place that told of another event is taken away from it.
func markKnown(ctx context.Context, tx pgx.Tx, entries []*entry) error {
	at := func(e *entry) place {
		if e.at == nil {
			return place{Offset: -1}
		}
		return *e.at
	}
	const q = `
		select p.n, f.id, l.same
		from unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bigint[])
			with ordinality p(dlq_topic, dlq_partition, dlq_offset, sum, source, event, topic, partition, record_offset, n)
		cross join lateral (
			select id, letter_id, topic, partition, record_offset
			from dead_letter_failures
			where dlq_topic = p.dlq_topic and dlq_partition = p.dlq_partition and dlq_offset = p.dlq_offset
			limit 1) f
		cross join lateral (
			select value_sha256 = p.sum and (event_source = p.source and event_id = p.event
				or coalesce((p.topic, p.partition, p.record_offset) in ((topic, partition, record_offset), (f.topic, f.partition, f.record_offset)), false)) same
			from dead_letters
			where id = f.letter_id
			limit 1) l`
	rows, err := tx.Query(ctx, q,
		column(entries, func(e *entry) string { return indexable(at(e).Topic) }), column(entries, func(e *entry) int32 { return at(e).Partition }),
		column(entries, func(e *entry) int64 { return at(e).Offset }), column(entries, func(e *entry) []byte { return e.sum }),
		column(entries, func(e *entry) string { return e.source }), column(entries, func(e *entry) string { return e.event }),
		column(entries, func(e *entry) *string { return e.topic }), column(entries, func(e *entry) *int32 { return e.partition }),
		column(entries, func(e *entry) *int64 { return e.offset }))
	if err != nil {
		return fmt.Errorf("find failures: %w", err)
	}
	var others []int64
	var n int
	var failure int64
	var same bool
	if _, err := pgx.ForEachRow(rows, []any{&n, &failure, &same}, func() error {
		if entries[n-1].known = same; !same {
			others = append(others, failure)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("find failures: %w", err)
	}
	if len(others) == 0 {
		return nil
	}
	_, err = tx.Exec(ctx, "update dead_letter_failures set dlq_topic = null, dlq_partition = null, dlq_offset = null where id = any($1::bigint[])", others)
	if err != nil {
		return fmt.Errorf("free places: %w", err)
	}
	return nil
}

// identityKey is what makes two letters one: the original's place if it is known, else source and id; and the value.
type identityKey struct {
	topic, source, event string
	partition            int32
	offset               int64 // -1: the place is not known
	sum                  [sha256.Size]byte
}

func (e *entry) identity() identityKey {
	if e.Origin != nil {
		return identityKey{topic: *e.topic, partition: e.Origin.Partition, offset: e.Origin.Offset, sum: [sha256.Size]byte(e.sum)}
	}
	return identityKey{source: e.source, event: e.event, offset: -1, sum: [sha256.Size]byte(e.sum)}
}

// storeLetters stores the letters that are not here yet, each with its first failure counted, and gives all their ids; fresh are those of
// the new ones.
func storeLetters(ctx context.Context, tx pgx.Tx, entries []*entry) (fresh map[uuid.UUID]bool, err error) {
	ids, fresh := map[identityKey]uuid.UUID{}, map[uuid.UUID]bool{}
	byPlace, byEvent := []*entry{}, []*entry{}
	for _, e := range entries {
		if _, twice := ids[e.identity()]; twice || e.copied {
			continue
		}
		ids[e.identity()] = uuid.Nil
		if e.Origin != nil {
			byPlace = append(byPlace, e)
		} else {
			byEvent = append(byEvent, e)
		}
	}
	if err := upsertLetters(ctx, tx, byPlace, "(topic, partition, record_offset, value_sha256) where record_offset is not null", ids, fresh); err != nil {
		return nil, err
	}
	if err := upsertLetters(ctx, tx, byEvent, "(event_source, event_id, value_sha256) where record_offset is null", ids, fresh); err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.copied {
			e.id = ids[e.identity()]
		}
	}
	return fresh, nil
}

// upsertLetters stores letters of one kind of identity, each once. A letter that is here already keeps all that it has; its row is locked.
func upsertLetters(ctx context.Context, tx pgx.Tx, entries []*entry, unique string, ids map[identityKey]uuid.UUID, fresh map[uuid.UUID]bool) error {
	if len(entries) == 0 {
		return nil
	}
	q := `
		insert into dead_letters as l
			(id, topic, partition, record_offset, recorded_at, exact, event_source, event_id, value_sha256, key, value, headers,
			 attributes, content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, correction, failure_count)
		select id, topic, partition, record_offset, recorded_at, exact, source, event, sum, key, value, headers::jsonb,
			attributes::jsonb, content_type, code, reason, fingerprint, nullif(symbol, ''), failed_at, failed_at, correction, 1
		from unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::text[], $8::text[], $9::bytea[], $10::bytea[], $11::bytea[],
			$12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::timestamptz[], $20::int[])
			with ordinality a(id, topic, partition, record_offset, recorded_at, exact, source, event, sum, key, value,
			headers, attributes, content_type, code, reason, fingerprint, symbol, failed_at, correction, n)
		order by n
		on conflict ` + unique + ` do update set id = l.id
		returning id, xmax = 0, coalesce(topic, ''), coalesce(partition, 0), coalesce(record_offset, -1), event_source, event_id, value_sha256`
	args, err := letterColumns(entries)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, q, args...)
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

// letterColumns gives the arrays of upsertLetters.
func letterColumns(entries []*entry) ([]any, error) {
	ids := make([]uuid.UUID, len(entries))
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make id: %w", err)
		}
		ids[i] = id
	}
	recorded := func(e *entry) *time.Time {
		if e.RecordedAt.IsZero() {
			return nil
		}
		return &e.RecordedAt
	}
	return []any{
		ids,
		column(entries, func(e *entry) *string { return e.topic }),
		column(entries, func(e *entry) *int32 { return e.partition }),
		column(entries, func(e *entry) *int64 { return e.offset }),
		column(entries, recorded),
		column(entries, func(e *entry) bool { return e.Exact }),
		column(entries, func(e *entry) string { return e.source }),
		column(entries, func(e *entry) string { return e.event }),
		column(entries, func(e *entry) []byte { return e.sum }),
		column(entries, func(e *entry) []byte { return e.Key }),
		column(entries, func(e *entry) []byte { return e.Value }),
		column(entries, func(e *entry) string { return e.headers }),
		column(entries, func(e *entry) string { return e.attributes }),
		column(entries, func(e *entry) string { return clean(e.ContentType) }),
		column(entries, func(e *entry) string { return e.failure.Code }),
		column(entries, func(e *entry) string { return e.failure.Reason }),
		column(entries, func(e *entry) string { return fingerprint(e.failure) }),
		column(entries, func(e *entry) string { return e.Symbol }),
		column(entries, func(e *entry) time.Time { return e.failure.FailedAt }),
		column(entries, func(e *entry) int { return correctionOf(e.Attributes) }),
	}, nil
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// entry is an arrival on its way into the tables.
type entry struct {
	letter.Arrival

	n                   int       // its index among the arrivals
	id                  uuid.UUID // of its letter
	sum                 []byte    // SHA-256 of the whole value
	source, event       string
	origin              place
	headers, attributes string // JSON
	known               bool   // the dead letter record was stored before
	copied              bool   // its record is a copy that a replay sent; id is that of the letter that was sent
}

// Save stores letters that arrived at the same time in one transaction of a few statements. A letter whose identity is new is stored; a
// known one gets one more failure. The idempotency key of a failure is the place of its dead letter record: the same record again
// changes nothing. The result has an error for each letter that must be delivered again. Errors are pgx's own; try again.
func (s *Store) Save(ctx context.Context, all []letter.Arrival) ([]error, error) {
	entries := make([]*entry, len(all))
	for i, a := range all {
		e, err := newEntry(i, a)
		if err != nil {
			return nil, err
		}
		entries[i] = e
	}
	var refused []error
	err := postgres.Retry(ctx, func() error {
		refused = make([]error, len(all))
		for _, e := range entries {
			e.known, e.copied = false, false
		}
		return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error { return saveTx(ctx, tx, entries, refused) })
	})
	return refused, err
}

func newEntry(n int, a letter.Arrival) (*entry, error) {
	headers, err := json.Marshal(letter.HeadersOf(a.Headers))
	if err != nil {
		return nil, fmt.Errorf("encode headers: %w", err)
	}
	attributes, err := json.Marshal(a.Attributes)
	if err != nil {
		return nil, fmt.Errorf("encode attributes: %w", err)
	}
	sum := a.Digest()
	e := &entry{
		Arrival: a, n: n, sum: sum[:], source: letter.Indexable(a.Attributes["source"]), event: letter.Indexable(a.Attributes["id"]),
		headers: string(headers), attributes: string(attributes), origin: columnsOf(a.Origin),
	}
	if a.Origin != nil {
		e.origin.topic = new(letter.Indexable(a.Origin.Topic))
	}
	return e, nil
}

// saveTx sets refused[e.n] for each entry that must be delivered again. It takes letters in the order of their identity, so that two
// replicas that store the same letters wait for each other and do not deadlock.
func saveTx(ctx context.Context, tx pgx.Tx, entries []*entry, refused []error) error {
	if err := markKnown(ctx, tx, entries); err != nil {
		return err
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return e.known })
	slices.SortStableFunc(entries, byIdentity)
	if err := findCopies(ctx, tx, entries, refused); err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return refused[e.n] != nil })
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

// column returns one value of each entry: an array for a statement, in the form that pgx encodes without reflection.
func column[E, T any](entries []E, value func(e E) T) pgtype.FlatArray[T] {
	out := make(pgtype.FlatArray[T], len(entries))
	for i, e := range entries {
		out[i] = value(e)
	}
	return out
}

// uuids is [column] for UUIDs, which pgx formats as text unless they have its own type.
func uuids[E any](entries []E, value func(e E) uuid.UUID) pgtype.FlatArray[pgtype.UUID] {
	return column(entries, func(e E) pgtype.UUID { return pgtype.UUID{Bytes: value(e), Valid: true} })
}

// markKnown finds dead letter records that were stored before with the same event: its value, and its source and id or its origin. The
// offsets of a topic that was created again begin at 0 again, so the place of a record alone does not identify it. A place that is
// stored with another event is removed from it. Records of letters that were removed are known, too, and so are later failures of the
// same originals: a letter that was settled does not come back.
func markKnown(ctx context.Context, tx pgx.Tx, entries []*entry) error {
	at := func(e *entry) kafkaclient.Place {
		if e.At == nil {
			return kafkaclient.Place{Offset: -1}
		}
		return *e.At
	}
	const q = `
		with p as (
			select *
			from unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::int[], $9::bigint[])
				with ordinality p(dlq_topic, dlq_partition, dlq_offset, sum, source, event, topic, partition, record_offset, n))
		select p.n, f.id, l.same
		from p
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
			limit 1) l
		union all
		select p.n, null, true
		from p
		cross join lateral (
			select from dead_letter_removed_records
			where topic = p.dlq_topic and partition = p.dlq_partition and record_offset = p.dlq_offset and value_sha256 = p.sum
			limit 1) r
		union all
		select p.n, null, true
		from p
		cross join lateral (
			select from dead_letter_removed_records
			where topic = p.topic and partition = p.partition and record_offset = p.record_offset and value_sha256 = p.sum
			limit 1) r`
	rows, err := tx.Query(ctx, q,
		column(entries, func(e *entry) string { return letter.Indexable(at(e).Topic) }), column(entries, func(e *entry) int32 { return at(e).Partition }),
		column(entries, func(e *entry) int64 { return at(e).Offset }), column(entries, func(e *entry) []byte { return e.sum }),
		column(entries, func(e *entry) string { return e.source }), column(entries, func(e *entry) string { return e.event }),
		column(entries, func(e *entry) *string { return e.origin.topic }), column(entries, func(e *entry) *int32 { return e.origin.partition }),
		column(entries, func(e *entry) *int64 { return e.origin.offset }))
	if err != nil {
		return fmt.Errorf("find failures: %w", err)
	}
	var others []int64
	var n int
	var failure *int64
	var same bool
	if _, err := pgx.ForEachRow(rows, []any{&n, &failure, &same}, func() error {
		if same {
			entries[n-1].known = true
		} else {
			others = append(others, *failure)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("find failures: %w", err)
	}
	if len(others) == 0 {
		return nil
	}
	const free = "update dead_letter_failures set dlq_topic = null, dlq_partition = null, dlq_offset = null where id = any($1::bigint[])"
	if _, err := tx.Exec(ctx, free, others); err != nil {
		return fmt.Errorf("free places: %w", err)
	}
	return nil
}

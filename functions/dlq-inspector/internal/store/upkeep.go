package store

import (
	"context"
	"time"

	"marketdata/shared/postgres"
)

const (
	indexedTogether = 250         // letters of one transaction
	indexFor        = time.Second // of a tick: a fifth of the time, so that arrivals go first

	removedTogether = 500         // letters of one transaction
	removeFor       = time.Second // of a tick
)

// IndexTexts makes letters searchable that arrived since the last call, or whose failure has changed, for a second at most. Until then a
// search reads them one by one.
func (s *Store) IndexTexts(ctx context.Context) error {
	// An array is made once; a subquery in IN may be executed again for each row, and then takes more letters than the limit.
	const q = `
		with taken as (
			delete from dead_letters_to_index
			where letter_id = any (array(select letter_id from dead_letters_to_index order by letter_id limit $1 for update skip locked))
			returning letter_id)
		insert into dead_letter_texts (letter_id, text)
		select l.id, ` + letterText + `
		from dead_letters l
		join taken on taken.letter_id = l.id
		order by l.id
		on conflict (letter_id) do update set text = excluded.text`
	var able bool
	if err := s.pool.QueryRow(ctx, hasSearch).Scan(&able); err != nil || !able {
		return postgres.Classify(err)
	}
	for began := time.Now(); time.Since(began) < indexFor; {
		n, err := s.affected(ctx, q, indexedTogether)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// affected executes a statement, again if it was the victim of a deadlock, and returns the number of rows that it changed.
func (s *Store) affected(ctx context.Context, q string, args ...any) (n int64, err error) {
	err = postgres.Retry(ctx, func() error {
		tag, err := s.pool.Exec(ctx, q, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, postgres.Classify(err)
}

// RemoveSettled removes letters that have been resolved, sent or discarded for longer than after, oldest first, for a second at most.
// Their audit trail stays. What stays of their records is where they are and the digest of the value, so that a late redelivery is no
// new letter, see [markKnown].
func (s *Store) RemoveSettled(ctx context.Context, after time.Duration) error {
	const q = `
		with old as (
			select *
			from dead_letters
			where status in ('resolved', 'sent', 'discarded') and status_since < now() - $1::interval and replay_id is null
			order by status_since
			limit $2
			for update skip locked),
		records as (
			insert into dead_letter_removed_records (topic, partition, record_offset, value_sha256)
			select r.topic, r.partition, r.record_offset, old.value_sha256
			from old
			cross join lateral (
				select old.topic, old.partition, old.record_offset
				union
				select topic, partition, record_offset from dead_letter_failures where letter_id = old.id
				union
				select dlq_topic, dlq_partition, dlq_offset from dead_letter_failures where letter_id = old.id) r
			where r.record_offset is not null
			order by r.topic, r.partition, r.record_offset
			on conflict do nothing),
		waiting as (delete from dead_letters_to_index where letter_id = any (array(select id from old))),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after)
			select id, 'dlq-inspector', 'remove', 'DLQ_RETENTION', jsonb_build_object('status', status, 'replay_count', replay_count, 'correction', correction,
				'code', code, 'topic', topic, 'partition', partition, 'offset', record_offset, 'source', event_source, 'id', event_id), '{"status":"removed"}'
			from old)
		delete from dead_letters where id = any (array(select id from old))`
	for began := time.Now(); time.Since(began) < removeFor; {
		n, err := s.affected(ctx, q, after, removedTogether)
		if err != nil || n < removedTogether {
			return err
		}
	}
	return nil
}

// FoldCounts adds the counts of all slots together, and forgets the hours that no answer shows any more.
func (s *Store) FoldCounts(ctx context.Context) error {
	const counts = `
		with moved as (
			delete from dead_letter_counts
			where (fingerprint, status, slot) in (
				select fingerprint, status, slot from dead_letter_counts where slot <> 0 limit 1000 for update skip locked)
			returning *)
		insert into dead_letter_counts as c (fingerprint, status, slot, letters, code, reason, first, last)
		select fingerprint, status, 0, sum(letters), min(code), min(reason), min(first), max(last)
		from moved
		group by fingerprint, status
		order by fingerprint, status
		on conflict (fingerprint, status, slot) do update
		set letters = c.letters + excluded.letters, first = least(c.first, excluded.first), last = greatest(c.last, excluded.last)`
	const hours = `
		with moved as (
			delete from dead_letter_hours
			where (fingerprint, hour, slot) in (
				select fingerprint, hour, slot from dead_letter_hours where slot <> 0 limit 1000 for update skip locked)
			returning *)
		insert into dead_letter_hours as h (fingerprint, hour, slot, failures)
		select fingerprint, hour, 0, sum(failures)
		from moved
		group by fingerprint, hour
		order by fingerprint, hour
		on conflict (fingerprint, hour, slot) do update set failures = h.failures + excluded.failures`
	const old = `
		delete from dead_letter_hours
		where (fingerprint, hour, slot) in (
			select fingerprint, hour, slot from dead_letter_hours where hour < now() - interval '3 days' order by hour limit 1000)`
	for _, q := range []string{counts, hours, old} {
		if _, err := s.affected(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

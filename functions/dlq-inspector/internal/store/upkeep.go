package store

import (
	"context"
	"time"

	"marketdata/shared/postgres"
)

const (
	indexedTogether = 250         // letters of one transaction
	indexFor        = time.Second // of a tick: a fifth of the time, so that arrivals go first
)

// IndexTexts makes letters searchable that arrived since the last call, or whose failure has changed, for a second at most. Until then a
// search reads them one by one.
func (s *Store) IndexTexts(ctx context.Context) error {
	const q = `
		with taken as (
			delete from dead_letters_to_index
			where letter_id in (select letter_id from dead_letters_to_index order by letter_id limit $1 for update skip locked)
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
		tag, err := s.pool.Exec(ctx, q, indexedTogether)
		if err != nil || tag.RowsAffected() == 0 {
			return postgres.Classify(err)
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
		if err := postgres.Retry(ctx, func() error { _, err := s.pool.Exec(ctx, q); return err }); err != nil {
			return postgres.Classify(err)
		}
	}
	return nil
}

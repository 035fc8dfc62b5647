package store

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/deadletter"
	"marketdata/shared/postgres"
)

const (
	// storedColumns are those of [scanStored].
	storedColumns = `id, status, replay_count, correction, replay_token, replay_id, replay_troubles, topic, partition, record_offset, recorded_at, exact, key, value,
	headers, attributes, content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, failure_count`

	selectLetter  = "select " + storedColumns + " from dead_letters where id = $1"
	lockLetter    = selectLetter + " for update"
	selectLetters = "select " + storedColumns + " from dead_letters where id = any ($1) order by id"
)

func scanStored(row pgx.CollectableRow) (l letter.Stored, err error) {
	var origin place
	var headers, attributes []byte
	var recorded, first, last pgtype.Timestamptz
	err = row.Scan(&l.ID, &l.Status, &l.ReplayCount, &l.Correction, &l.Token, &l.Bulk, &l.Troubles, &origin.topic, &origin.partition, &origin.offset, &recorded,
		&l.Exact, &l.Key, &l.Value, &headers, &attributes, &l.ContentType, &l.Code, &l.Reason, &l.Fingerprint, &l.Symbol, &first, &last, &l.FailureCount)
	if err != nil {
		return l, err
	}
	l.Origin, l.FirstFailedAt, l.LastFailedAt = origin.get(), shown(first), shown(last)
	if recorded.Valid {
		l.RecordedAt = new(shown(recorded))
	}
	if err := json.Unmarshal(headers, &l.Headers); err != nil {
		return l, err
	}
	return l, json.Unmarshal(attributes, &l.Attributes)
}

// shown returns a stored time within the years 1 to 9999, which JSON can hold: a time beyond them must not prevent a letter, or the
// list that it is in, from being shown.
func shown(t pgtype.Timestamptz) time.Time {
	earliest, latest := time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	switch {
	case t.InfinityModifier == pgtype.Infinity, t.Time.After(latest):
		return latest
	case t.InfinityModifier == pgtype.NegativeInfinity, t.Time.Before(earliest):
		return earliest
	}
	return t.Time.UTC()
}

// Letter returns a letter with its failures and its audit trail. NotFound with code message_not_found.
func (s *Store) Letter(ctx context.Context, id uuid.UUID) (letter.Stored, []deadletter.Failure, []letter.AuditEntry, error) {
	rows, err := s.pool.Query(ctx, selectLetter, id)
	if err != nil {
		return letter.Stored{}, nil, nil, postgres.ClassifyOne(err, errNoLetter)
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanStored)
	if err != nil {
		return letter.Stored{}, nil, nil, postgres.ClassifyOne(err, errNoLetter)
	}
	failures, err := s.failures(ctx, id)
	if err != nil {
		return letter.Stored{}, nil, nil, err
	}
	trail, err := s.trail(ctx, id)
	return l, failures, trail, err
}

// Letters returns letters with their contents, by id.
func (s *Store) Letters(ctx context.Context, ids []uuid.UUID) ([]letter.Stored, error) {
	rows, err := s.pool.Query(ctx, selectLetters, ids)
	return collect(rows, err, scanStored)
}

// failures returns the first 1000 failures of a letter, oldest first.
func (s *Store) failures(ctx context.Context, id uuid.UUID) ([]deadletter.Failure, error) {
	const q = "select code, reason, function, failed_at from dead_letter_failures where letter_id = $1 order by id limit 1000"
	rows, err := s.pool.Query(ctx, q, id)
	return collect(rows, err, func(row pgx.CollectableRow) (f deadletter.Failure, err error) {
		var at pgtype.Timestamptz
		err = row.Scan(&f.Code, &f.Reason, &f.Function, &at)
		f.FailedAt = shown(at)
		return f, err
	})
}

// maxTrailBytes limits the values in one letter's trail together. The newest are shown.
const maxTrailBytes = 2 << 20

// trail returns the newest 1000 changes of a letter, oldest first.
func (s *Store) trail(ctx context.Context, id uuid.UUID) ([]letter.AuditEntry, error) {
	const q = `
		select at, who, action, reason, before, after, size, case when total <= $2 then value end
		from (
			select *, octet_length(value) size, sum(octet_length(value)) over (order by id desc) total
			from (select * from dead_letter_audit where letter_id = $1 order by id desc limit 1000) newest) sized
		order by id`
	rows, err := s.pool.Query(ctx, q, id, maxTrailBytes)
	return collect(rows, err, pgx.RowToStructByPos[letter.AuditEntry])
}

// Stats counts letters by status.
func (s *Store) Stats(ctx context.Context) (map[letter.Status]int64, error) {
	rows, err := s.pool.Query(ctx, "select status, sum(letters)::bigint from dead_letter_counts group by status")
	if err != nil {
		return nil, postgres.Classify(err)
	}
	out := map[letter.Status]int64{}
	for _, status := range letter.Statuses() {
		out[status] = 0
	}
	var status letter.Status
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		out[status] = n
		return nil
	})
	return out, postgres.Classify(err)
}

package main

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/shared/postgres"
)

// stored is a letter as it is read.
type stored struct {
	ID uuid.UUID
	state
	Origin        *place
	RecordedAt    *time.Time
	Exact         bool
	Key           []byte
	Value         []byte
	Headers       []header
	Attributes    map[string]string
	ContentType   string
	Code          string
	Reason        string
	Fingerprint   string
	Symbol        *string
	FirstFailedAt time.Time
	LastFailedAt  time.Time
	FailureCount  int
}

const storedColumns = `id, status, replay_count, correction, replay_token, replay_id, replay_troubles, topic, partition, record_offset, recorded_at, exact, key, value,
	headers, attributes, content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, failure_count`

func scanStored(row pgx.CollectableRow) (l stored, err error) {
	var topic *string
	var partition *int32
	var offset *int64
	var headers, attributes []byte
	var recorded, first, last pgtype.Timestamptz
	err = row.Scan(&l.ID, &l.Status, &l.ReplayCount, &l.Correction, &l.token, &l.bulk, &l.troubles, &topic, &partition, &offset, &recorded, &l.Exact, &l.Key, &l.Value,
		&headers, &attributes, &l.ContentType, &l.Code, &l.Reason, &l.Fingerprint, &l.Symbol, &first, &last, &l.FailureCount)
	if err != nil {
		return l, err
	}
	l.FirstFailedAt, l.LastFailedAt = shown(first), shown(last)
	if recorded.Valid {
		l.RecordedAt = new(shown(recorded))
	}
	l.Origin = placeOf(topic, partition, offset)
	if err := json.Unmarshal(headers, &l.Headers); err != nil {
		return l, err
	}
	return l, json.Unmarshal(attributes, &l.Attributes)
}

// correctionOf reads the extension of that name; what is no number counts as 0.
func correctionOf(attributes map[string]string) int {
	n, err := strconv.ParseInt(attributes["correction"], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// shown gives a stored time as JSON can hold it, from the year 1 to 9999: one that lies beyond must not keep a letter, or a list that it is
// in, from being shown.
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

func scanFailure(row pgx.CollectableRow) (f failure, err error) {
	var at pgtype.Timestamptz
	err = row.Scan(&f.Code, &f.Reason, &f.Function, &at)
	f.FailedAt = shown(at)
	return f, err
}

// letter reads one letter whole. NotFound with code "message_not_found".
func (s *pgStore) letter(ctx context.Context, id uuid.UUID) (stored, []failure, []auditEntry, error) {
	rows, err := s.pool.Query(ctx, "select "+storedColumns+" from dead_letters where id = $1", id)
	if err != nil {
		return stored{}, nil, nil, notFound(err)
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanStored)
	if err != nil {
		return stored{}, nil, nil, notFound(err)
	}
	rows, err = s.pool.Query(ctx, "select code, reason, function, failed_at from dead_letter_failures where letter_id = $1 order by id limit 1000", id)
	if err != nil {
		return stored{}, nil, nil, postgres.Classify(err)
	}
	failures, err := pgx.CollectRows(rows, scanFailure)
	if err != nil {
		return stored{}, nil, nil, postgres.Classify(err)
	}
	trail, err := s.trail(ctx, id)
	return l, failures, trail, postgres.Classify(err)
}

// filter selects letters; zero members select all.
type filter struct {
	Status      string     `json:"status,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Symbol      string     `json:"symbol,omitempty"`
	Topic       string     `json:"topic,omitempty"`
	Q           string     `json:"q,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	Until       *time.Time `json:"until,omitempty"`
}

// filterCondition is a filter in SQL, with [filter.args] as $1 to $7.
const filterCondition = `($1 = '' or status = $1) and ($2 = '' or fingerprint = $2) and ($3 = '' or symbol = $3) and ($4 = '' or topic = $4)
			and ($5::timestamptz is null or last_failed_at >= $5) and ($6::timestamptz is null or last_failed_at < $6)
			and ($7 = '' or strpos(lower(concat_ws(' ', code, reason, symbol, event_source, event_id)), lower($7)) > 0)`

func (f filter) args() []any {
	return []any{f.Status, f.Fingerprint, strings.ToUpper(f.Symbol), f.Topic, f.Since, f.Until, f.Q} // symbols are stored in upper case
}

// group is the letters of one cause.
type group struct {
	Fingerprint string    `json:"fingerprint"`
	Code        string    `json:"code"`
	Reason      string    `json:"reason" doc:"Of one letter of the group"`
	Letters     int64     `json:"letters"`
	Open        int64     `json:"open"`
	First       time.Time `json:"first_failed_at"`
	Last        time.Time `json:"last_failed_at"`
	Meaning     string    `json:"meaning,omitempty" db:"-" doc:"What the code says, if it is one of compute-ma's"`
	Remedy      string    `json:"remedy,omitempty" db:"-" doc:"What can be done about it"`
}

func scanGroup(row pgx.CollectableRow) (g group, err error) {
	var first, last pgtype.Timestamptz
	err = row.Scan(&g.Fingerprint, &g.Code, &g.Reason, &g.Letters, &g.Open, &first, &last)
	g.First, g.Last = shown(first), shown(last)
	return g, err
}

// groupKey is a group's place in the list.
type groupKey struct {
	Open, Letters int64
	Fingerprint   string
}

// groups counts letters by fingerprint, largest open groups first, from after (exclusive; nil: from the first) on.
func (s *pgStore) groups(ctx context.Context, after *groupKey, limit int) ([]group, error) {
	const q = `
		select fingerprint, code, reason, letters, open, first, last
		from (
			select fingerprint, min(code) code, min(reason) reason, count(*) letters, count(*) filter (where status = 'open') open,
				min(first_failed_at) first, max(last_failed_at) last
			from dead_letters
			group by fingerprint) g
		where $1::bigint is null or (-open, -letters, fingerprint collate "C") > (-$1, -$2::bigint, $3)
		order by -open, -letters, fingerprint collate "C"
		limit $4`
	var open, letters *int64
	var fingerprint *string
	if after != nil {
		open, letters, fingerprint = &after.Open, &after.Letters, &after.Fingerprint
	}
	rows, err := s.pool.Query(ctx, q, open, letters, fingerprint, limit)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanGroup)
	return all, postgres.Classify(err)
}

// stats counts letters by status.
func (s *pgStore) stats(ctx context.Context) (map[string]int64, error) {
	rows, err := s.pool.Query(ctx, "select status, count(*) from dead_letters group by status")
	if err != nil {
		return nil, postgres.Classify(err)
	}
	out := map[string]int64{"open": 0, "replaying": 0, "resolved": 0, "sent": 0, "discarded": 0}
	var status string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		out[status] = n
		return nil
	})
	return out, postgres.Classify(err)
}

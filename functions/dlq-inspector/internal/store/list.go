package store

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/dlq-inspector/internal/letter"
)

func keyOf(at pgtype.Timestamptz, id uuid.UUID) letter.ListKey {
	switch at.InfinityModifier {
	case pgtype.Infinity:
		return letter.ListKey{At: math.MaxInt64, ID: id}
	case pgtype.NegativeInfinity:
		return letter.ListKey{At: math.MinInt64, ID: id}
	case pgtype.Finite:
	}
	return letter.ListKey{At: at.Time.UnixMicro(), ID: id}
}

// timeOf is the inverse of [keyOf]. A time that Postgres cannot hold is infinity.
func timeOf(k letter.ListKey) pgtype.Timestamptz {
	const least, most = -210_866_803_200_000_000, math.MaxInt64 - 1_000_000_000_000_000 // 4714 BC, about 292,000 AD
	switch {
	case k.At > most:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	case k.At < least:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(k.At), Valid: true}
}

// where returns a filter as an SQL condition. It has only the terms that select, so the planner can see which index serves.
func where(f letter.Filter) (condition string, args []any) {
	condition = "true"
	add := func(set bool, term string, value any) {
		if set {
			args = append(args, value)
			condition += " and " + strings.ReplaceAll(term, "?", "$"+strconv.Itoa(len(args)))
		}
	}
	add(f.Status != "", "status = ?", f.Status)
	add(f.Fingerprint != "", "fingerprint = ?", f.Fingerprint)
	add(f.Symbol != "", "symbol = ?", strings.ToUpper(f.Symbol)) // symbols are stored in upper case
	add(f.Topic != "", "topic = ?", f.Topic)
	add(f.Since != nil, "last_failed_at >= ?", f.Since)
	add(f.Until != nil, "last_failed_at < ?", f.Until)
	add(f.Q != "", "strpos(lower(concat_ws(' ', code, reason, symbol, event_source, event_id)), lower(?)) > 0", f.Q)
	return condition, args
}

// List returns letters without their contents, newest failure first, after the given key; nil: from the first on.
func (s *Store) List(ctx context.Context, f letter.Filter, after *letter.ListKey, limit int) ([]letter.Listed, error) {
	condition, args := where(f)
	if after != nil {
		args = append(args, timeOf(*after), after.ID)
		condition += " and (last_failed_at, id) < ($" + strconv.Itoa(len(args)-1) + ", $" + strconv.Itoa(len(args)) + ")"
	}
	args = append(args, limit)
	q := `
		select id, status, replay_count, topic, partition, record_offset, exact, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, failure_count
		from dead_letters
		where ` + condition + `
		order by last_failed_at desc, id desc
		limit $` + strconv.Itoa(len(args))
	rows, err := s.pool.Query(ctx, q, args...)
	return collect(rows, err, scanListed)
}

func scanListed(row pgx.CollectableRow) (l letter.Listed, err error) {
	var origin place
	var first, last pgtype.Timestamptz
	err = row.Scan(&l.ID, &l.Status, &l.ReplayCount, &origin.topic, &origin.partition, &origin.offset, &l.Exact, &l.Code, &l.Reason, &l.Fingerprint, &l.Symbol,
		&first, &last, &l.FailureCount)
	l.Origin, l.FirstFailedAt, l.LastFailedAt, l.Key = origin.get(), shown(first), shown(last), keyOf(last, l.ID)
	return l, err
}

// Groups returns letters by fingerprint, the group with the most open letters first, after the given key; nil: from the first on.
func (s *Store) Groups(ctx context.Context, after *letter.GroupKey, limit int) ([]letter.Group, error) {
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
	return collect(rows, err, func(row pgx.CollectableRow) (g letter.Group, err error) {
		var first, last pgtype.Timestamptz
		err = row.Scan(&g.Fingerprint, &g.Code, &g.Reason, &g.Letters, &g.Open, &first, &last)
		g.First, g.Last = shown(first), shown(last)
		return g, err
	})
}

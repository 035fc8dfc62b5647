package main

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/shared/postgres"
)

// listed is a letter in a list, without key, value, headers and attributes, and its place there.
type listed struct {
	stored

	key listKey
}

// listKey is a letter's place in the list: newest failure first.
type listKey struct {
	At int64 // last_failed_at in microseconds since 1970; the greatest and the least: infinity
	ID uuid.UUID
}

func keyOf(at pgtype.Timestamptz, id uuid.UUID) listKey {
	switch at.InfinityModifier {
	case pgtype.Infinity:
		return listKey{math.MaxInt64, id}
	case pgtype.NegativeInfinity:
		return listKey{math.MinInt64, id}
	case pgtype.Finite:
	}
	return listKey{at.Time.UnixMicro(), id}
}

// time is the inverse of keyOf. What Postgres cannot hold is infinity.
func (k listKey) time() pgtype.Timestamptz {
	const least, most = -210_866_803_200_000_000, math.MaxInt64 - 1_000_000_000_000_000 // 4714 BC, about 292,000 AD
	switch {
	case k.At > most:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	case k.At < least:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(k.At), Valid: true}
}

// where is the filter in SQL. Only what it selects by is in it, so that the planner sees which index serves.
func (f filter) where() (condition string, args []any) {
	condition = "true"
	add := func(set bool, term string, value any) {
		if set {
			args = append(args, value)
			condition += " and " + strings.ReplaceAll(term, "?", "$"+strconv.Itoa(len(args)))
		}
	}
	add(f.Status != "", "status = ?", f.Status)
	add(f.Fingerprint != "", "fingerprint = ?", f.Fingerprint)
	add(f.Symbol != "", "symbol = ?", strings.ToUpper(f.Symbol)) // as they are stored
	add(f.Topic != "", "topic = ?", f.Topic)
	add(f.Since != nil, "last_failed_at >= ?", f.Since)
	add(f.Until != nil, "last_failed_at < ?", f.Until)
	add(f.Q != "", "strpos(lower(concat_ws(' ', code, reason, symbol, event_source, event_id)), lower(?)) > 0", f.Q)
	return condition, args
}

// letters lists letters, newest failure first, from before (exclusive; nil: from the first) on.
func (s *pgStore) letters(ctx context.Context, f filter, before *listKey, limit int) ([]listed, error) {
	condition, args := f.where()
	if before != nil {
		args = append(args, before.time(), before.ID)
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
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanListed)
	return all, postgres.Classify(err)
}

func scanListed(row pgx.CollectableRow) (l listed, err error) {
	var topic *string
	var partition *int32
	var offset *int64
	var first, last pgtype.Timestamptz
	err = row.Scan(&l.ID, &l.Status, &l.ReplayCount, &topic, &partition, &offset, &l.Exact, &l.Code, &l.Reason, &l.Fingerprint, &l.Symbol,
		&first, &last, &l.FailureCount)
	l.Origin = placeOf(topic, partition, offset)
	l.FirstFailedAt, l.LastFailedAt, l.key = shown(first), shown(last), keyOf(last, l.ID)
	return l, err
}

package store

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/postgres"
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

// listing builds the query of a list. It has only the terms that select, so that the planner sees which index serves.
type listing struct {
	terms strings.Builder
	args  []any
}

// add adds a condition, whose value is the question mark.
func (q *listing) add(set bool, term string, value any) {
	if set {
		q.terms.WriteString(" and " + strings.ReplaceAll(term, "?", q.arg(value)))
	}
}

// arg adds a parameter.
func (q *listing) arg(value any) string {
	q.args = append(q.args, value)
	return "$" + strconv.Itoa(len(q.args))
}

const (
	listedColumns = `l.id, l.status, l.replay_count, l.topic, l.partition, l.record_offset, l.exact, l.code, l.reason, l.fingerprint, l.symbol,
		l.first_failed_at, l.last_failed_at, l.failure_count`
	newestFirst = " order by last_failed_at desc, id desc limit "
	// letterText is the text of dead_letter_texts.
	letterText = "dead_letter_text(l.code, l.reason, l.symbol, l.event_source, l.event_id, l.value)"
	// waiting are the letters without a text. The limit makes the planner look them up one by one: it takes them for many, although they
	// are few and rows that were deleted.
	waiting = "dead_letters_to_index w cross join lateral (select * from dead_letters where id = w.letter_id limit 1) l"
	// textOf looks up the texts of letters one by one, too, in the order of the letters, until there are enough.
	textOf  = "cross join lateral (select * from dead_letter_texts where letter_id = l.id limit 1) t"
	ownText = "lower(concat_ws(' ', l.code, l.reason, l.symbol, l.event_source, l.event_id))"
)

// listed returns the query of a page of the letters that f selects. Each of its parts reads one range of one index, newest first. With
// newest above 0, only that many of the letters that the other members of f select are searched for f.Q.
func listed(f letter.Filter, after *letter.ListKey, limit, newest int, values bool) (query string, args []any) {
	q := &listing{}
	q.add(f.Fingerprint != "", "l.fingerprint = ?", f.Fingerprint)
	q.add(f.Symbol != "", "l.symbol = ?", strings.ToUpper(f.Symbol)) // symbols are stored in upper case
	q.add(f.Short(), "l.symbol = ?", strings.ToUpper(f.Q))
	q.add(f.Topic != "", "l.topic = ?", f.Topic)
	q.add(f.SameKeyAs != nil, "sha256(l.key) = (select sha256(key) from dead_letters where id = ?)", f.SameKeyAs)
	q.add(f.Since != nil, "l.last_failed_at >= ?", f.Since)
	q.add(f.Until != nil, "l.last_failed_at < ?", f.Until)
	q.add(f.Status != "", "l.status = ?", f.Status)
	if after != nil {
		q.terms.WriteString(" and (l.last_failed_at, l.id) < (" + q.arg(timeOf(*after)) + ", " + q.arg(after.ID) + ")")
	}
	most := q.arg(limit)
	part := func(from, condition string) string {
		return "(select " + listedColumns + " from " + from + " where " + condition + q.terms.String() + newestFirst + most + ")"
	}
	var parts []string
	switch {
	case f.Q != "" && !f.Short() && values:
		one, other := patterns(f.Q)
		one, other = q.arg(one), q.arg(other)
		texts := "dead_letter_texts t join dead_letters l on l.id = t.letter_id"
		if newest > 0 {
			first := newestFirst + q.arg(newest) + ")"
			var all []string
			for _, s := range ranges(f) {
				all = append(all, "(select * from dead_letters l where "+s+q.terms.String()+first)
			}
			texts = "(select * from (" + strings.Join(all, " union all ") + ") l" + first + " l " + textOf
		}
		parts = []string{
			part(texts, like("t.text", one, other)),
			part(waiting, like(letterText, one, other)),
		}
	case f.Q != "" && !f.Short():
		one, other := patterns(f.Q)
		parts = []string{part("dead_letters l", like(ownText, q.arg(one), q.arg(other)))}
	default:
		for _, s := range ranges(f) {
			parts = append(parts, part("dead_letters l", s))
		}
	}
	// A letter that waits to be indexed again is in both parts of a search.
	return "select * from (" + strings.Join(parts, " union ") + ") l" + newestFirst + most, q.args
}

// ranges returns a condition for each range of an index that has letters which f selects: all indexes but that of the keys have the status
// before the time.
func ranges(f letter.Filter) []string {
	if f.Status != "" || f.SameKeyAs != nil {
		return []string{"true"}
	}
	var all []string
	for _, s := range letter.Statuses() {
		all = append(all, "l.status = '"+string(s)+"'")
	}
	return all
}

// patterns returns what [letterText] is like if it contains text: as it is, and as in a value, with escapes. Postgres lowers them, since it
// depends on its locale which letters have another case.
func patterns(text string) (plain, inValue string) {
	var escaped strings.Builder
	for _, b := range []byte(text) {
		switch {
		case b == '\\':
			escaped.WriteString(`\\`)
		case b == 0 || b >= 0x80:
			fmt.Fprintf(&escaped, `\%03o`, b)
		default:
			escaped.WriteByte(b)
		}
	}
	wildcards := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`)
	return "%" + wildcards.Replace(text) + "%", "%" + wildcards.Replace(escaped.String()) + "%"
}

// like is the condition that a text contains one of two patterns, in lower case: parameters of [patterns]. Not "like any": an array that is
// computed would be computed again for every letter.
func like(text, one, other string) string {
	return "(" + text + " like lower(" + one + ") or " + text + " like lower(" + other + "))"
}

// lookedThrough is how many of the newest letters a search looks through before it uses the index of texts: that would sort all letters with
// a common text to find the newest of them.
const lookedThrough = 5_000

// List returns letters without their contents, newest failure first, after the given key; nil: from the first on. values says whether
// Filter.Q was also looked for in the values.
func (s *Store) List(ctx context.Context, f letter.Filter, after *letter.ListKey, limit int) (all []letter.Listed, values bool, err error) {
	if f.Q != "" {
		if err := s.pool.QueryRow(ctx, hasSearch).Scan(&values); err != nil {
			return nil, false, postgres.Classify(err)
		}
	}
	if values && !f.Short() {
		all, err = s.list(ctx, f, after, limit, lookedThrough, values)
		if err != nil || len(all) == limit {
			return all, values, err
		}
	}
	all, err = s.list(ctx, f, after, limit, 0, values)
	return all, values, err
}

func (s *Store) list(ctx context.Context, f letter.Filter, after *letter.ListKey, limit, newest int, values bool) ([]letter.Listed, error) {
	query, args := listed(f, after, limit, newest, values)
	// The index of texts has no order: what it finds is sorted.
	db := querier(s.pool)
	if f.Q == "" || f.Short() || newest > 0 {
		db = postgres.NewIndexed(s.pool, 0)
	}
	rows, err := db.Query(ctx, query, args...)
	return collect(rows, err, scanListed)
}

// hasSearch says whether the index of the search is there.
const hasSearch = "select to_regclass('dead_letter_texts_search') is not null"

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
		with page as (
			select *
			from (
				select fingerprint, min(code) code, min(reason) reason, sum(letters)::bigint letters,
					coalesce(sum(letters) filter (where status = 'open'), 0)::bigint open, min(first) first, max(last) last
				from dead_letter_counts
				group by fingerprint
				having sum(letters) > 0) g
			where $1::bigint is null or (-open, -letters, fingerprint collate "C") > (-$1, -$2::bigint, $3)
			order by -open, -letters, fingerprint collate "C"
			limit $4)
		select fingerprint, code, reason, letters, open, first, last,
			array(
				select coalesce(sum(h.failures), 0)::bigint
				from generate_series(date_trunc('hour', now(), 'UTC') - interval '23 hours', now(), interval '1 hour') t (hour)
				left join dead_letter_hours h on h.fingerprint = page.fingerprint and h.hour = t.hour
				group by t.hour
				order by t.hour)
		from page
		order by -open, -letters, fingerprint collate "C"`
	var open, letters *int64
	var fingerprint *string
	if after != nil {
		open, letters, fingerprint = &after.Open, &after.Letters, &after.Fingerprint
	}
	rows, err := s.pool.Query(ctx, q, open, letters, fingerprint, limit)
	return collect(rows, err, func(row pgx.CollectableRow) (g letter.Group, err error) {
		var first, last pgtype.Timestamptz
		err = row.Scan(&g.Fingerprint, &g.Code, &g.Reason, &g.Letters, &g.Open, &first, &last, &g.Hours)
		g.First, g.Last = shown(first), shown(last)
		return g, err
	})
}

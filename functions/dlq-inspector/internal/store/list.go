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

// filter adds what f selects, but for its text if that is searched for, after a key; nil: from the first letter on.
func (q *listing) filter(f letter.Filter, after *letter.ListKey) {
	q.add(f.Fingerprint != "", "l.fingerprint = ?", f.Fingerprint)
	q.add(f.Symbol != "", "l.symbol = ?", strings.ToUpper(f.Symbol)) // symbols are stored in upper case
	q.add(f.Short(), "l.symbol = ?", strings.ToUpper(f.Q))
	q.add(f.Topic != "", "l.topic = ?", f.Topic)
	q.add(f.SameKeyAs != nil, "sha256(l.key) = (select sha256(key) from dead_letters where id = ?)", f.SameKeyAs)
	q.add(f.Since != nil, "l.last_failed_at >= ?", f.Since)
	q.add(f.Until != nil, "l.last_failed_at < ?", f.Until)
	q.add(f.Status != "", "l.status = ?", f.Status)
	if after != nil {
		q.terms.WriteString(" and (l.last_failed_at, l.id) < " + q.key(*after))
	}
}

// key adds the parameters of a key.
func (q *listing) key(k letter.ListKey) string {
	return "(" + q.arg(timeOf(k)) + ", " + q.arg(k.ID) + ")"
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

// listed returns the query of a page of the letters that f selects. Each of its parts reads one range of one index, newest first. With a
// last, no letter behind it is looked at: then a search looks through the letters, and not into the index of their texts.
func listed(f letter.Filter, after, last *letter.ListKey, limit int, values bool) (query string, args []any) {
	q := &listing{}
	q.filter(f, after)
	if last != nil {
		q.terms.WriteString(" and (l.last_failed_at, l.id) >= " + q.key(*last))
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
		parts = []string{part(waiting, like(letterText, one, other))}
		if last == nil {
			parts = append(parts, part("dead_letter_texts t join dead_letters l on l.id = t.letter_id", like("t.text", one, other)))
			break
		}
		for _, s := range ranges(f) {
			parts = append(parts, part("dead_letters l "+textOf, s+" and "+like("t.text", one, other)))
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

// nth returns the query of the key of the n-th letter after a key, of those that f selects without its text.
func nth(f letter.Filter, after *letter.ListKey, n int) (query string, args []any) {
	q := &listing{}
	q.filter(f, after)
	most := q.arg(n)
	var parts []string
	for _, s := range ranges(f) {
		parts = append(parts, "(select last_failed_at, id from dead_letters l where "+s+q.terms.String()+newestFirst+most+")")
	}
	return "select * from (" + strings.Join(parts, " union all ") + ") l" + newestFirst + "1 offset " + most + " - 1", q.args
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

const (
	// lookedThrough is how many letters a search looks through, newest first (about 10 us each), and how many it samples.
	lookedThrough = 3_000
	// sorted is how many letters the index of texts may find. It has no order, so all that it finds are read and sorted for one page of
	// them (about 30 us each).
	sorted = 1_000
)

// List returns letters without their contents, newest failure first, after the given key; nil: from the first on.
//
// A search whose text is in many letters, but not in enough of the next ones, has a page that is shorter than limit, or empty, although
// more pages follow: nothing finds the next letters with it fast. The next page goes on from the last letter that was looked at.
func (s *Store) List(ctx context.Context, f letter.Filter, after *letter.ListKey, limit int) (letter.ListPage, error) {
	values, texts, err := s.searchable(ctx, f)
	if err != nil {
		return letter.ListPage{}, err
	}
	if texts > 0 {
		page, enough, err := s.lookThrough(ctx, f, after, limit, texts)
		if err != nil || enough {
			return page, err
		}
	}
	all, err := s.list(ctx, f, after, nil, limit+1, values)
	return letter.PageOf(all, limit, values), err
}

// searchable reports whether values can be searched for the text of f, and how many texts Postgres takes the index to have; 0 if it is not
// needed.
func (s *Store) searchable(ctx context.Context, f letter.Filter) (values bool, texts float64, err error) {
	if f.Q == "" || f.Short() {
		return true, 0, nil
	}
	const q = hasSearch + ", coalesce((select reltuples from pg_class where oid = to_regclass('dead_letter_texts')), 0)::float8"
	if err := s.pool.QueryRow(ctx, q).Scan(&values, &texts); err != nil {
		return false, 0, postgres.Classify(err)
	}
	if !values {
		texts = 0
	}
	return values, texts, nil
}

// lookThrough looks through the next letters. enough is false if the index of texts can do better.
func (s *Store) lookThrough(ctx context.Context, f letter.Filter, after *letter.ListKey, limit int, texts float64) (page letter.ListPage, enough bool, err error) {
	last, err := s.nth(ctx, f, after, lookedThrough)
	if err != nil {
		return letter.ListPage{}, false, err
	}
	to := last
	if to == nil {
		to = &letter.ListKey{At: math.MinInt64} // all that are left
	}
	all, err := s.list(ctx, f, after, to, limit+1, true)
	if err != nil || len(all) > limit || last == nil {
		return letter.PageOf(all, limit, true), true, err
	}
	one, other := patterns(f.Q)
	share := min(1, lookedThrough/texts)
	var found int
	if err := s.pool.QueryRow(ctx, sample, 100*share, one, other).Scan(&found); err != nil {
		return letter.ListPage{}, false, postgres.Classify(err)
	}
	searched := shown(timeOf(*last))
	return letter.ListPage{Letters: all, Next: last, Searched: &searched, Values: true}, float64(found)/share >= sorted, nil
}

func (s *Store) list(ctx context.Context, f letter.Filter, after, last *letter.ListKey, limit int, values bool) ([]letter.Listed, error) {
	query, args := listed(f, after, last, limit, values)
	// The index of texts has no order: what it finds is sorted.
	db := querier(s.pool)
	if f.Q == "" || f.Short() || last != nil {
		db = postgres.NewIndexed(s.pool, 0)
	}
	rows, err := db.Query(ctx, query, args...)
	return collect(rows, err, scanListed)
}

// nth returns nil if there are fewer letters.
func (s *Store) nth(ctx context.Context, f letter.Filter, after *letter.ListKey, n int) (*letter.ListKey, error) {
	query, args := nth(f, after, n)
	rows, err := postgres.NewIndexed(s.pool, 0).Query(ctx, query, args...)
	all, err := collect(rows, err, func(row pgx.CollectableRow) (letter.ListKey, error) {
		var at pgtype.Timestamptz
		var id uuid.UUID
		err := row.Scan(&at, &id)
		return keyOf(at, id), err
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// hasSearch says whether the index of the search is there.
const hasSearch = "select to_regclass('dead_letter_texts_search') is not null"

// sample counts the texts like one of two patterns, in some per cent of all, taken anywhere.
var sample = "select count(*) from dead_letter_texts t tablesample system ($1) where " + like("t.text", "$2", "$3")

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

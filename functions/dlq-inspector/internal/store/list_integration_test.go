//go:build integration

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/testenv"
)

func open(t *testing.T) (*store.Store, *pgxpool.Pool) {
	t.Helper()
	pool := testenv.Postgres(t)
	return store.New(pool), pool
}

// counted compares the counts that are kept with the letters themselves.
func counted(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	const differ = `
		select count(*)
		from (select fingerprint, status, count(*) n from dead_letters group by 1, 2) a
		full join (select fingerprint, status, sum(letters) n from dead_letter_counts group by 1, 2 having sum(letters) <> 0) b using (fingerprint, status)
		where a.n is distinct from b.n`
	require.Zero(t, lettertest.Count(t, pool, differ))
}

// Whatever changes letters, and in however many connections at a time, the counts are those of the letters.
func TestCountsAreThoseOfTheLetters(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	changes := []string{
		"update dead_letters set status = (array['open', 'replaying', 'resolved', 'sent', 'discarded'])[1 + floor(random() * 5)::int] where random() < 0.3",
		"update dead_letters set fingerprint = 'f' || floor(random() * 4)::int, failure_count = failure_count + 1, last_failed_at = now() where random() < 0.3",
		"update dead_letters set replay_troubles = replay_troubles + 1 where random() < 0.5",
		"delete from dead_letters where random() < 0.1",
		`insert into dead_letters (id, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at, failure_count)
			select gen_random_uuid(), true, sha256(gen_random_uuid()::text::bytea), 'x', '[]', '{}', 'x', 'x', 'f' || i % 4, now(), now(), 1
			from generate_series(1, 20) i`,
	}
	done := make(chan error)
	const writers = 4
	for w := range writers {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		go func() {
			var err error
			for range 60 {
				if random.IntN(5) == 0 {
					err = s.FoldCounts(context.Background())
				} else {
					_, err = pool.Exec(context.Background(), changes[random.IntN(len(changes))])
				}
				if err != nil && !deadlock(err) { // of two writers of letters, as before
					break
				}
				err = nil
			}
			done <- err
		}()
	}
	for range writers {
		require.NoError(t, <-done)
	}
	counted(t, pool)
	for lettertest.Count(t, pool, "select count(*) from dead_letter_counts where slot <> 0") > 0 {
		require.NoError(t, s.FoldCounts(t.Context()))
	}
	counted(t, pool)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	for status, n := range stats {
		require.Equal(t, int64(lettertest.Count(t, pool, "select count(*) from dead_letters where status = $1", status)), n, status)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	at := time.Now().UTC().Truncate(time.Hour)
	add := func(fingerprint string, failed time.Time, n int) {
		lettertest.Exec(t, pool, `
			insert into dead_letters (id, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at, failure_count)
			select gen_random_uuid(), true, sha256(gen_random_uuid()::text::bytea), 'x', '[]', '{}', 'code', 'why', $1, $2, $2, 1 from generate_series(1, $3) i`, fingerprint, failed, n)
	}
	add("a", at, 3)
	add("a", at.Add(-2*time.Hour), 1)
	add("a", at.Add(-30*time.Hour), 1) // older than what is shown
	add("b", at.Add(-23*time.Hour), 2)
	lettertest.Exec(t, pool, "update dead_letters set status = 'resolved' where fingerprint = 'b'")
	lettertest.Exec(t, pool, "update dead_letters set failure_count = 3, last_failed_at = $1 where fingerprint = 'b'", at.Add(-time.Hour))
	for range 2 {
		groups, err := s.Groups(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Len(t, groups, 2)
		a, b := groups[0], groups[1]
		require.Equal(t, []any{"a", "code", "why", int64(5), int64(5), at.Add(-30 * time.Hour), at}, []any{a.Fingerprint, a.Code, a.Reason, a.Letters, a.Open, a.First, a.Last})
		require.Equal(t, []any{"b", int64(2), int64(0), at.Add(-time.Hour)}, []any{b.Fingerprint, b.Letters, b.Open, b.Last})
		hours := func(ago map[int]int64) []int64 {
			all := make([]int64, 24)
			for back, n := range ago {
				all[23-back] = n
			}
			return all
		}
		require.Equal(t, hours(map[int]int64{0: 3, 2: 1}), a.Hours)
		require.Equal(t, hours(map[int]int64{23: 2, 1: 4}), b.Hours)
		require.NoError(t, s.FoldCounts(t.Context())) // changes no answer
	}
	lettertest.Exec(t, pool, "delete from dead_letters where fingerprint = 'b'")
	groups, err := s.Groups(t.Context(), nil, 10)
	require.NoError(t, err)
	require.Len(t, groups, 1)
}

// A search finds the same letters before and after they are indexed, in any case (of other than ASCII letters if the database's locale
// knows it) and any script.
func TestSearch(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	for i, l := range []struct{ symbol, reason, value string }{
		{"AAPL", "price -1 is negative", `{"symbol":"AAPL","price":-1}`},
		{"BTC-USD", "Grüße, 100% \\ wrong", "日本語 \x00\xff {\"Note\": \"100%_done\"}"},
		{"K2", "unknown member", ""},
	} {
		lettertest.Exec(t, pool, `
			insert into dead_letters (id, exact, event_source, event_id, value_sha256, value, headers, attributes, code, reason, fingerprint, symbol, first_failed_at, last_failed_at)
			values ($1, true, '/providers/x', 'event-' || $2, sha256($3), $3, '[]', '{}', 'code_x', $4, 'f', $5, now(), now())`,
			uuid.New(), strconv.Itoa(i), []byte(l.value), l.reason, l.symbol)
	}
	check := func(when string) {
		for q, want := range map[string][]string{
			"aapl": {"AAPL"}, "Price\":-1": {"AAPL"}, "code_x": {"AAPL", "BTC-USD", "K2"}, "codeax": nil, "event-1": {"BTC-USD"},
			"日本": {"BTC-USD"}, "GRüßE": {"BTC-USD"}, "100%_D": {"BTC-USD"}, "100%xd": nil, `\ wrong`: {"BTC-USD"}, "k2": {"K2"}, "k3": nil, "no such text": nil,
			"/PROVIDERS": {"AAPL", "BTC-USD", "K2"},
		} {
			page, err := s.List(t.Context(), letter.Filter{Q: q}, nil, 10)
			require.NoError(t, err)
			require.True(t, page.Values)
			var got []string
			for _, l := range page.Letters {
				got = append(got, *l.Symbol)
			}
			require.ElementsMatch(t, want, got, "%s, %q", when, q)
		}
	}
	check("waiting")
	require.NoError(t, s.IndexTexts(t.Context()))
	require.Equal(t, 3, lettertest.Count(t, pool, "select count(*) from dead_letter_texts"))
	check("indexed")

	lettertest.Exec(t, pool, "update dead_letters set reason = 'another one' where symbol = 'K2'")
	for range 2 {
		page, err := s.List(t.Context(), letter.Filter{Q: "another"}, nil, 10)
		require.NoError(t, err)
		require.Len(t, page.Letters, 1, "the new failure is found, before and after it is indexed")
		require.NoError(t, s.IndexTexts(t.Context()))
	}

	lettertest.Exec(t, pool, "drop index dead_letter_texts_search")
	page, err := s.List(t.Context(), letter.Filter{Q: "another"}, nil, 10)
	require.NoError(t, err)
	require.Len(t, page.Letters, 1)
	require.False(t, page.Values, "without the extension the values are not searched")
	for q, want := range map[string]int64{"price\":-1": 0, "another": 1} {
		b, err := s.CreateBulk(t.Context(), replay.Bulk{Who: "me", Filter: letter.Filter{Q: q}, Target: replay.ToFunction, Action: replay.ActionReplay, DryRun: true, Rate: 1}, "", nil)
		require.NoError(t, err)
		require.Equal(t, want, b.Matched, "a replay selects what the list shows: %s", q)
	}
	lettertest.Exec(t, pool, "delete from dead_letters")
	require.Zero(t, lettertest.Count(t, pool, "select count(*) from dead_letter_texts"))
}

// Letters with the key of a letter: a key of any length, and an empty one, but no null.
func TestLettersWithTheSameKey(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	long := bytes.Repeat([]byte("k"), 100_000)
	ids := map[string][]uuid.UUID{}
	for i, key := range [][]byte{[]byte("a"), []byte("b"), []byte("a"), long, long, {}, {}, nil, nil} {
		id := uuid.New()
		ids[string(key)+strconv.FormatBool(key == nil)] = append(ids[string(key)+strconv.FormatBool(key == nil)], id)
		lettertest.Exec(t, pool, `
			insert into dead_letters (id, exact, key, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at)
			values ($1, true, $2, sha256($3::text::bytea), 'x', '[]', '{}', 'c', 'r', 'f', now(), now())`, id, key, strconv.Itoa(i))
	}
	for name, same := range ids {
		page, err := s.List(t.Context(), letter.Filter{SameKeyAs: &same[0]}, nil, 10)
		require.NoError(t, err)
		var got []uuid.UUID
		for _, l := range page.Letters {
			got = append(got, l.ID)
		}
		if name == "true" { // null
			require.Empty(t, got)
			continue
		}
		require.ElementsMatch(t, same, got)
	}
}

// Pages of every filter have each letter once, newest failure first.
func TestPages(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	lettertest.Exec(t, pool, `
		insert into dead_letters (id, status, topic, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, symbol, first_failed_at, last_failed_at)
		select gen_random_uuid(), (array['open', 'replaying', 'resolved', 'sent', 'discarded'])[1 + i % 5], 't' || i % 2, true, sha256(i::text::bytea), convert_to('text ' || i, 'UTF8'), '[]', '{}', 'c', 'r', 'f' || i % 3, 'S' || i % 4,
			now(), now() - i % 7 * interval '1 s'
		from generate_series(1, 300) i`)
	require.NoError(t, s.IndexTexts(t.Context()))
	for name, f := range map[string]letter.Filter{
		"all": {}, "status": {Status: letter.Sent}, "fingerprint": {Fingerprint: "f1"}, "symbol": {Symbol: "s2"}, "topic": {Topic: "t1"}, "text": {Q: "text 2"},
		"two": {Fingerprint: "f1", Symbol: "S3"}, "with status": {Topic: "t0", Status: letter.Open}, "short": {Q: "s1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[uuid.UUID]bool{}
			last := time.Now().Add(time.Hour)
			for page := range pages(t, s, f, 17) {
				for _, l := range page.Letters {
					require.False(t, seen[l.ID])
					require.False(t, l.LastFailedAt.After(last))
					seen[l.ID], last = true, l.LastFailedAt
				}
			}
			all, err := s.List(t.Context(), f, nil, 1000)
			require.NoError(t, err)
			require.Nil(t, all.Next)
			require.Len(t, seen, len(all.Letters))
			require.NotEmpty(t, all.Letters, fmt.Sprint(f))
		})
	}
}

// pages lists page by page, until the last.
func pages(t *testing.T, s *store.Store, f letter.Filter, limit int) iter.Seq[letter.ListPage] {
	t.Helper()
	return func(yield func(letter.ListPage) bool) {
		var after *letter.ListKey
		for {
			page, err := s.List(t.Context(), f, after, limit)
			require.NoError(t, err)
			if !yield(page) || page.Next == nil {
				return
			}
			after = page.Next
		}
	}
}

// A search finds each letter once and in order, wherever it is: pages are full if its text is in most of the newest letters, or in few
// letters at all, and short or empty if too many would have to be sorted.
func TestSearchGoesBeyondTheNewest(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	const letters = 40_000
	lettertest.Exec(t, pool, `
		insert into dead_letters (id, status, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, first_failed_at, last_failed_at)
		select lpad(i::text, 32, '0')::uuid, case when i % 2 = 0 then 'open' else 'resolved' end, true, sha256(i::text::bytea), convert_to(concat_ws(' ',
				'common',
				case when i % 20 = 0 then 'some' end,
				case when i % 3000 = 0 then 'rare' end,
				case when i > 30000 then 'earlier' end,
				case when i > $1 - 25 then 'oldest' end,
				case when i in (5, 6, $1) then 'apart' end), 'UTF8'), '[]', '{}', 'c', 'r', 'f',
			now(), now() - i / 7 * interval '1 s' -- seven letters at a time, as batches fail
		from generate_series(1, $1::int) i`, letters)
	index := func(where string) {
		lettertest.Exec(t, pool, `
			with taken as (delete from dead_letters_to_index where `+where+` returning letter_id)
			insert into dead_letter_texts
			select id, dead_letter_text(code, reason, symbol, event_source, event_id, value) from dead_letters join taken on letter_id = id`)
	}
	index("right(letter_id::text, 2) <> '30'") // others wait, among them every tenth that has "some"
	lettertest.Exec(t, pool, "analyze dead_letter_texts")
	for text, want := range map[string]struct{ found, short, empty int }{
		"common": {found: letters}, "rare": {found: letters / 3000}, "oldest": {found: 25}, "apart": {found: 3}, "none": {},
		"some":    {found: letters / 20, short: letters / 3000}, // 150 of each 3,000
		"earlier": {found: 10_000, empty: 9, short: 1},          // 30,000 letters are newer
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			const limit = 170
			got, short, empty := []string{}, 0, 0
			for page := range pages(t, s, letter.Filter{Q: text}, limit) {
				require.True(t, page.Values)
				require.LessOrEqual(t, len(page.Letters), limit)
				require.Equal(t, page.Next != nil && len(page.Letters) < limit, page.Searched != nil)
				switch {
				case page.Searched != nil && len(page.Letters) == 0:
					empty++
				case page.Searched != nil:
					short++
				}
				for _, l := range page.Letters {
					require.False(t, page.Searched != nil && l.LastFailedAt.Before(*page.Searched))
					got = append(got, l.ID.String())
				}
			}
			require.LessOrEqual(t, short, want.short)
			require.GreaterOrEqual(t, short, want.short-2, "a random sample, one in 400, makes a page full that should be short")
			require.Equal(t, want.empty, empty)
			rows, err := pool.Query(t.Context(), `
				select id::text from dead_letters where convert_from(value, 'UTF8') like '%' || $1 || '%' order by last_failed_at desc, id desc`, text)
			require.NoError(t, err)
			wanted, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.Len(t, wanted, want.found)
			require.Equal(t, wanted, got)
		})
	}
}

func deadlock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "40P01"
}

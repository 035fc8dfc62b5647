//go:build integration

package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

const retention = 90 * 24 * time.Hour

// arrivals returns n letters with an original and a dead letter record each.
func arrivals(n int) []letter.Arrival {
	all := make([]letter.Arrival, n)
	for i := range all {
		all[i] = letter.Arrival{
			Letter: letter.Letter{
				Origin: &kafkaclient.Place{Topic: "events", Offset: int64(i)}, Value: []byte(fmt.Sprint("value ", i)), Symbol: "S", Exact: true,
				Attributes: lettertest.Event("id", fmt.Sprint(i)),
			},
			Failure: deadletter.Failure{Code: "invalid_price", Reason: "negative", FailedAt: time.Now()},
			At:      &kafkaclient.Place{Topic: "dead-letters", Offset: int64(i)},
		}
	}
	return all
}

// cut is an arrival whose dead letter record has only the beginning of the value, after the original is gone.
func cut(a letter.Arrival) letter.Arrival {
	sum := sha256.Sum256(a.Value)
	a.Headers, a.Value, a.Exact = deadletter.NewCut(int64(len(a.Value)), sum[:]).Headers(), a.Value[:3], false
	return a
}

// A letter that was cut is the same one after its original is gone from the topic.
func TestACutLetterIsTheSameWithoutItsOriginal(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	a := arrivals(1)[0]
	save(t, s, a)
	lettertest.Exec(t, pool, "update dead_letters set status = 'discarded'")
	save(t, s, cut(a))
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'discarded' and failure_count = 1"))
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters"))
}

func save(t *testing.T, s *store.Store, all ...letter.Arrival) {
	t.Helper()
	refused, err := s.Save(t.Context(), all)
	require.NoError(t, err)
	for _, err := range refused {
		require.NoError(t, err)
	}
}

// settle gives the letters of a value, or all, a status that they have had for an age.
func settle(t *testing.T, pool *pgxpool.Pool, value string, status letter.Status, age time.Duration) {
	t.Helper()
	const where = " where $1 = '' or value = convert_to($1, 'UTF8')"
	lettertest.Exec(t, pool, "update dead_letters set status = $2"+where, value, status)
	lettertest.Exec(t, pool, "update dead_letters set status_since = now() - $2::interval"+where, value, age)
}

func TestOnlyLettersThatWereSettledLongAgoAreRemoved(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	const days = 24 * time.Hour
	rows := []struct {
		status letter.Status
		age    time.Duration
		owed   bool // a bulk replay has not counted it
		stays  bool
	}{
		{letter.Resolved, 91 * days, false, false},
		{letter.Sent, 91 * days, false, false},
		{letter.Discarded, 91 * days, false, false},
		{letter.Open, 5000 * days, false, true},
		{letter.Replaying, 5000 * days, false, true},
		{letter.Resolved, 89 * days, false, true},
		{letter.Sent, 89 * days, false, true},
		{letter.Discarded, 89 * days, false, true},
		{letter.Resolved, 91 * days, true, true},
	}
	all := arrivals(len(rows))
	save(t, s, all...)
	require.NoError(t, s.IndexTexts(t.Context()))
	for i, r := range rows {
		value := string(all[i].Value)
		settle(t, pool, value, r.status, r.age)
		if r.owed {
			lettertest.Exec(t, pool, "update dead_letters set replay_id = gen_random_uuid() where value = $1", all[i].Value)
		}
	}
	require.NoError(t, s.RemoveSettled(t.Context(), retention))
	for i, r := range rows {
		n := lettertest.Count(t, pool, "select count(*) from dead_letters where value = $1", all[i].Value)
		require.Equal(t, r.stays, n == 1, "%s for %s", r.status, r.age)
	}
	const removed = 3
	left := len(rows) - removed
	counted(t, pool)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[letter.Status]int64{letter.Open: 1, letter.Replaying: 1, letter.Resolved: 2, letter.Sent: 1, letter.Discarded: 1}, stats)
	groups, err := s.Groups(t.Context(), nil, 10)
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, int64(left), groups[0].Letters)
	require.Equal(t, left, lettertest.Count(t, pool, "select count(*) from dead_letter_failures"))
	require.Equal(t, left, lettertest.Count(t, pool, "select count(*) from dead_letter_texts"))
	found, err := s.List(t.Context(), letter.Filter{Q: "negative"}, nil, 100)
	require.NoError(t, err)
	require.Len(t, found.Letters, left)
}

// The trail says of a letter that is gone which one it was, what was done with it, and that it was removed.
func TestAuditTrailOutlivesItsLetter(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	save(t, s, arrivals(1)...)
	page, err := s.List(t.Context(), letter.Filter{}, nil, 1)
	require.NoError(t, err)
	id := page.Letters[0].ID
	_, err = s.Transition(t.Context(), id, letter.Change{
		Who: "anna", Action: letter.ActionDiscard, Reason: "known", Apply: func(l letter.Stored) (letter.State, error) { return l.Discard() },
	})
	require.NoError(t, err)
	require.NoError(t, s.RemoveSettled(t.Context(), retention))
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters"), "it was settled just now")
	lettertest.Exec(t, pool, "update dead_letters set status_since = now() - interval '91 days'")
	require.NoError(t, s.RemoveSettled(t.Context(), retention))
	_, _, _, err = s.Letter(t.Context(), id)
	require.Error(t, err)
	var actions []string
	var before map[string]any
	require.NoError(t, pool.QueryRow(t.Context(), "select array_agg(action order by id) from dead_letter_audit where letter_id = $1", id).Scan(&actions))
	require.Equal(t, []string{"discard", "remove"}, actions)
	require.NoError(t, pool.QueryRow(t.Context(), "select before from dead_letter_audit where action = 'remove'").Scan(&before))
	require.Equal(t, map[string]any{
		"status": "discarded", "replay_count": 0., "correction": 0., "code": "invalid_price", "topic": "events", "partition": 0., "offset": 0.,
		"source": "/providers/x", "id": "0",
	}, before)
}

// Only a change of the status begins the time anew: neither another failure nor a bulk replay that skips the letter does.
func TestStatusSince(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	all := arrivals(1)
	save(t, s, all...)
	settle(t, pool, "", letter.Resolved, 91*24*time.Hour)
	again := all[0]
	again.At = &kafkaclient.Place{Topic: "dead-letters", Offset: 99}
	save(t, s, again)
	lettertest.Exec(t, pool, "update dead_letters set status = 'resolved', replay_id = null")
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters where failure_count = 2 and status_since < now() - interval '90 days'"))
	lettertest.Exec(t, pool, "update dead_letters set status = 'open'")
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters where status_since > now() - interval '1 minute'"))
}

// A record that is redelivered after its letter was removed is no letter, whichever of its records it is; another event is one.
func TestRecordsOfRemovedLetters(t *testing.T) {
	t.Parallel()
	at := func(topic string, offset int64) *kafkaclient.Place {
		return &kafkaclient.Place{Topic: topic, Offset: offset}
	}
	rows := map[string]struct {
		change func(a *letter.Arrival)
		isNew  bool
	}{
		"the same record":                             {func(*letter.Arrival) {}, false},
		"its original is gone":                        {func(a *letter.Arrival) { a.Origin, a.Exact = nil, false }, false},
		"its original is gone, and its value was cut": {func(a *letter.Arrival) { *a = cut(*a) }, false},
		"another dead letter record of the original":  {func(a *letter.Arrival) { a.At = at("dead-letters", 7) }, false},
		"a delivery that does not name its record":    {func(a *letter.Arrival) { a.At = nil }, false},
		"the copy that was refused":                   {func(a *letter.Arrival) { a.At, a.Origin = at("dead-letters", 7), at("events", 5) }, false},
		"another value, after the topics began anew":  {func(a *letter.Arrival) { a.Value = []byte("other") }, true},
		"the same value elsewhere":                    {func(a *letter.Arrival) { a.At, a.Origin = at("dead-letters", 7), at("events", 7) }, true},
		"the same value elsewhere, original unknown":  {func(a *letter.Arrival) { a.At, a.Origin, a.Exact = at("dead-letters", 7), nil, false }, true},
		"the same place in a topic with another name": {func(a *letter.Arrival) { a.At, a.Origin = at("letters", 0), at("other", 0) }, true},
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := open(t)
			first := arrivals(1)[0]
			save(t, s, first)
			lettertest.Exec(t, pool, "update dead_letters set status = 'sent'")
			refusedCopy := first
			refusedCopy.At, refusedCopy.Origin = at("dead-letters", 3), at("events", 5)
			save(t, s, refusedCopy)
			require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'open' and failure_count = 2"))
			settle(t, pool, "", letter.Resolved, 91*24*time.Hour)
			require.NoError(t, s.RemoveSettled(t.Context(), retention))
			late := first
			r.change(&late)
			for range 2 {
				save(t, s, late)
			}
			require.Equal(t, r.isNew, lettertest.Count(t, pool, "select count(*) from dead_letters") == 1)
			counted(t, pool)
		})
	}
}

// A letter's records are known before its removal, after it, and in the instant between.
func TestRedeliveriesDuringARemoval(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	all := arrivals(100)
	save(t, s, all...)
	settle(t, pool, "", letter.Discarded, 91*24*time.Hour)
	done := make(chan error)
	const replicas = 4
	for i := range replicas {
		go func() {
			var err error
			for n := range 20 {
				if i == 0 && n == 5 {
					err = s.RemoveSettled(context.Background(), retention)
				} else {
					_, err = s.Save(context.Background(), all)
				}
				if err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range replicas {
		require.NoError(t, <-done)
	}
	require.Zero(t, lettertest.Count(t, pool, "select count(*) from dead_letters"))
	counted(t, pool)
}

// A tick reads the letters that are due, however many others there are, and takes all of a large backlog in turns.
func TestRemovalReadsOnlyWhatIsDue(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	lettertest.Fill(t, pool, "events", "S", 5000)
	lettertest.Exec(t, pool, "update dead_letters set status = 'resolved'")
	lettertest.Exec(t, pool, "update dead_letters set status_since = now() - interval '91 days' where partition = 0")
	lettertest.Exec(t, pool, "analyze dead_letters")
	scans := func() int {
		lettertest.Exec(t, pool, "select pg_stat_force_next_flush()")
		return lettertest.Count(t, pool, "select seq_scan from pg_stat_user_tables where relname = 'dead_letters'")
	}
	before := scans()
	require.NoError(t, s.RemoveSettled(t.Context(), retention))
	require.Equal(t, before, scans(), "an index has them")
	require.Equal(t, 3750, lettertest.Count(t, pool, "select count(*) from dead_letters"))
	counted(t, pool)
}

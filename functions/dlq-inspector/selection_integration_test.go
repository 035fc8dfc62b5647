//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
)

// bulkWork asks for bulk work and finishes it.
func (b bundle) bulkWork(t *testing.T, path, body string) operators.BulkBody {
	t.Helper()
	status, answer := b.do(t, http.MethodPost, path, body)
	require.Equal(t, http.StatusAccepted, status, answer)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	var v operators.BulkBody
	require.NoError(t, json.Unmarshal(text, &v))
	return b.finish(t, v)
}

// ids returns the ids of letters that a condition selects, as a JSON array.
func (b bundle) ids(t *testing.T, condition string) string {
	t.Helper()
	var ids string
	require.NoError(t, b.pool.QueryRow(t.Context(), "select coalesce(jsonb_agg(id), '[]')::text from dead_letters where "+condition).Scan(&ids))
	return ids
}

// Letters that are selected by id are replayed like those of a filter. One that is not open, or that does not exist, is counted by its
// code, and no other letter is touched.
func TestBulkReplaysByID(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"function", "topic"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fill(t, "A", 30)
			b.save(t, "N", 1) // has no origin
			b.exec(t, "update dead_letters set status = 'discarded' where record_offset = 30")
			ids := b.ids(t, "record_offset > 20 or symbol = 'N'")
			unknown := uuid.NewString()
			ids = strings.Replace(ids, "[", fmt.Sprintf("[%q, %q, ", unknown, unknown), 1)
			v := b.bulkWork(t, "/dlq/replays", fmt.Sprintf(`{"ids":%s,"target":%q,"rate_per_second":1000}`, ids, target))
			require.Equal(t, "completed", v.Status)
			require.EqualValues(t, 12, v.Matched)
			require.EqualValues(t, 12, v.Done)
			require.Len(t, v.Filter.IDs, 12)
			settled, other := map[string]int64{"function": 10, "topic": 9}[target], map[string]int64{"not_open": 1, "message_not_found": 1}
			if target == "topic" {
				other["not_exact"] = 1
			}
			require.Equal(t, settled, v.Outcomes["resolved"]+v.Outcomes["sent"])
			require.Equal(t, other, v.Reasons)
			require.Equal(t, 20, b.count(t, "select count(*) from dead_letters where status = 'open' and symbol = 'A'"))
			_, list := b.do(t, http.MethodGet, "/dlq/replays", "")
			require.NotContains(t, fmt.Sprint(list), "ids:")
			require.Contains(t, fmt.Sprint(list), "selection:ids")
		})
	}
}

func TestBulkDiscards(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 1200)
	b.fill(t, "B", 3)
	plan := b.bulkWork(t, "/dlq/discards", `{"filter":{"symbol":"A"},"reason":"old","dry_run":true}`)
	require.Equal(t, map[string]int64{"discarded": 1200, "skipped": 0}, plan.Outcomes)
	require.Equal(t, "discard", plan.Action)
	require.Equal(t, 1203, b.count(t, "select count(*) from dead_letters where status = 'open'"))
	began := time.Now()
	v := b.bulkWork(t, "/dlq/discards", `{"filter":{"symbol":"A"},"reason":"old"}`)
	t.Log(int(1200/time.Since(began).Seconds()), "letters a second")
	require.Equal(t, "completed", v.Status)
	require.Equal(t, plan.Outcomes, v.Outcomes)
	require.Equal(t, 1200, b.count(t, "select count(*) from dead_letters where status = 'discarded' and symbol = 'A'"))
	require.Equal(t, 1200, b.count(t, `select count(*) from dead_letter_audit
		where action = 'discard' and who = 'operator' and reason = 'old' and before->>'status' = 'open' and after->>'status' = 'discarded'`))
	require.Empty(t, b.target.Paths, "nothing is sent")

	ids := b.ids(t, "symbol = 'B' or record_offset = 1200")
	v = b.bulkWork(t, "/dlq/discards", fmt.Sprintf(`{"ids":%s,"reason":"the rest"}`, ids))
	require.Equal(t, map[string]int64{"discarded": 3, "skipped": 1}, v.Outcomes)
	require.Equal(t, map[string]int64{"not_open": 1}, v.Reasons)
}

// A letter that a replay has at the moment is not discarded.
func TestBulkDiscardLeavesLettersInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 3)
	b.exec(t, "update dead_letters set status = 'replaying', replay_token = gen_random_uuid(), replay_expires_at = now() + interval '1 hour' where record_offset = 1")
	status, answer := b.do(t, http.MethodPost, "/dlq/discards", `{"filter":{},"reason":"x"}`)
	require.Equal(t, http.StatusAccepted, status)
	b.bulks.Wait(10 * time.Second)
	_, answer = b.do(t, http.MethodGet, fmt.Sprint("/dlq/replays/", answer["id"]), "")
	require.Equal(t, map[string]any{"discarded": 2.0, "skipped": 1.0}, answer["outcomes"])
	require.Equal(t, 1, b.count(t, "select count(*) from dead_letters where status = 'replaying'"))
}

func TestBulkDiscardIsCreatedOnceForAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 3)
	ask := func(path, body string) (int, map[string]any) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header = http.Header{"Authorization": {"Bearer secret"}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"}}
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, r)
		var v map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
		return w.Code, v
	}
	_, first := ask("/dlq/discards", `{"filter":{},"reason":"x"}`)
	_, again := ask("/dlq/discards", `{"filter":{},"reason":"x"}`)
	require.Equal(t, first["id"], again["id"])
	status, other := ask("/dlq/replays", `{"filter":{},"reason":"x"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "idempotency_conflict", other["code"])
}

func TestSelectionsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	tooMany, err := json.Marshal(make([]uuid.UUID, 1001))
	require.NoError(t, err)
	for name, c := range map[string]struct{ path, body string }{
		"ids and a filter":          {"/dlq/replays", fmt.Sprintf(`{"ids":[%q],"filter":{}}`, id)},
		"no ids":                    {"/dlq/replays", `{"ids":[]}`},
		"too many ids":              {"/dlq/replays", fmt.Sprintf(`{"ids":%s}`, tooMany)},
		"no id":                     {"/dlq/replays", `{"ids":["x"]}`},
		"a discard of ids and more": {"/dlq/discards", fmt.Sprintf(`{"ids":[%q],"filter":{},"reason":"x"}`, id)},
		"a discard of nothing":      {"/dlq/discards", `{"reason":"x"}`},
		"a discard without reason":  {"/dlq/discards", `{"filter":{}}`},
		"a discard with a target":   {"/dlq/discards", `{"filter":{},"reason":"x","target":"topic"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := b.do(t, http.MethodPost, c.path, c.body)
			require.Equal(t, http.StatusBadRequest, status, answer)
			require.Equal(t, "invalid_parameter", answer["code"])
		})
	}
}

// A version that knows neither ids nor discards gets no lease on such work: it would replay other letters.
func TestAnOldVersionGetsNoWorkThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const lease = `
		update dead_letter_replays set lease_token = gen_random_uuid(), lease_expires_at = now() + interval '15 seconds'
		where status = 'running' and lease_expires_at <= now()`
	for name, c := range map[string]struct {
		with func(*replay.Bulk)
		n    int64
	}{
		"a replay of a filter": {func(*replay.Bulk) {}, 1},
		"a replay by ids":      {func(b *replay.Bulk) { b.Filter.IDs = []uuid.UUID{uuid.New()} }, 0},
		"a discard":            {func(b *replay.Bulk) { b.Action = replay.ActionDiscard }, 0},
	} {
		work := replay.Bulk{Rate: 1}
		c.with(&work)
		created, err := b.store.CreateBulk(t.Context(), work, "", nil)
		require.NoError(t, err, name)
		tag, err := b.pool.Exec(t.Context(), lease)
		require.NoError(t, err, name)
		require.Equal(t, c.n, tag.RowsAffected(), name)
		b.exec(t, "update dead_letter_replays set status = 'completed' where id = $1", created.ID)
	}
}

// A discard whose process dies is taken over, and each letter is counted once. Neither that process, should it only have been slow, nor
// the process of a discard that was cancelled changes another letter.
func TestBulkDiscardIsTakenOverAndCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 600)
	begin := func() (replay.Bulk, []uuid.UUID) {
		_, err := b.store.CreateBulk(t.Context(), replay.Bulk{Action: replay.ActionDiscard, Who: "anna", Rate: 1}, "", nil)
		require.NoError(t, err)
		claimed, ok, err := b.store.ClaimBulk(t.Context(), "another process")
		require.NoError(t, err)
		require.True(t, ok)
		some, err := b.store.Selected(t.Context(), claimed, 100)
		require.NoError(t, err)
		var ids []uuid.UUID
		for _, c := range some {
			ids = append(ids, c.ID)
		}
		return claimed, ids
	}
	discard := func(claimed replay.Bulk, ids []uuid.UUID) error {
		_, err := b.store.Discard(t.Context(), claimed, replay.Advance{Cursor: &ids[len(ids)-1], Outcomes: map[letter.Outcome]int64{}, Reasons: map[string]int64{}}, ids)
		return err
	}
	cancelled, ids := begin()
	_, err := b.store.CancelBulk(t.Context(), cancelled.ID, "anna")
	require.NoError(t, err)
	require.ErrorIs(t, discard(cancelled, ids), replay.ErrLost)
	require.Equal(t, 600, b.count(t, "select count(*) from dead_letters where status = 'open'"))

	claimed, ids := begin()
	require.NoError(t, discard(claimed, ids))
	b.exec(t, "update dead_letter_replays set lease_expires_at = now() where id = $1", claimed.ID)
	v := b.finish(t, operators.BulkBody{ID: claimed.ID})
	require.Equal(t, map[string]int64{"discarded": 600, "skipped": 0}, v.Outcomes)
	require.ErrorIs(t, discard(claimed, ids), replay.ErrLost)
	require.Equal(t, 600, b.count(t, "select count(*) from dead_letter_audit where action = 'discard' and who = 'anna'"))
}

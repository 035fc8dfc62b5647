//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/deadletter"
	"marketdata/shared/testenv"
)

// save stores n letters of a symbol, without an origin.
func (b bundle) save(t *testing.T, symbol string, n int) {
	t.Helper()
	for i := range n {
		l := letter.Letter{Value: fmt.Appendf(nil, `{"symbol":%q,"n":%d}`, symbol, i), Symbol: symbol, Attributes: map[string]string{
			"specversion": "1.0", "id": fmt.Sprint(symbol, i), "source": "/s", "type": "marketdata.price.observed.v1",
		}}
		b.keep(t, l, deadletter.Failure{Code: "invalid_price", Reason: "x", FailedAt: time.Now()})
	}
}

func (b bundle) replayMany(t *testing.T, body string) operators.BulkBody {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/dlq/replays", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer secret")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	var v operators.BulkBody
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	require.Equal(t, "/dlq/replays/"+v.ID.String(), w.Header().Get("Location"))
	return v
}

func (b bundle) bulk(t *testing.T, id uuid.UUID) operators.BulkBody {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/dlq/replays/"+id.String(), nil)
	r.Header.Set("Authorization", "Bearer secret")
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var v operators.BulkBody
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

func (b bundle) tick(t *testing.T) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	for name, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "dev.knative.sources.ping"} {
		r.Header.Set(name, v)
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
}

// finish ticks until the replay has ended, and returns it.
func (b bundle) finish(t *testing.T, v operators.BulkBody) operators.BulkBody {
	t.Helper()
	require.Eventually(t, func() bool {
		b.tick(t) // returns once no work is left
		v = b.bulk(t, v.ID)
		return v.Status != "running"
	}, 60*time.Second, time.Millisecond)
	require.Zero(t, b.count(t, "select count(*) from dead_letters where replay_id is not null or status = 'replaying'"))
	return v
}

func (b bundle) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	return lettertest.Count(t, b.pool, query, args...)
}

func (b bundle) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	lettertest.Exec(t, b.pool, query, args...)
}

func TestBulkReplaysWhatTheFilterSelects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 20)
	b.save(t, "B", 3)
	v := b.finish(t, b.replayMany(t, `{"filter":{"symbol":"A"},"rate_per_second":1000,"reason":"mended"}`))
	require.Equal(t, "completed", v.Status)
	require.NotNil(t, v.FinishedAt)
	require.EqualValues(t, 20, v.Matched)
	require.EqualValues(t, 20, v.Done)
	require.Equal(t, map[string]int64{"resolved": 20, "refused": 0, "sent": 0, "skipped": 0}, v.Outcomes)
	require.Equal(t, 20, b.count(t, "select count(*) from dead_letters where status = 'resolved' and symbol = 'A'"))
	require.Equal(t, 3, b.count(t, "select count(*) from dead_letters where status = 'open' and symbol = 'B'"))
	require.Equal(t, 20, b.count(t, "select count(*) from dead_letter_audit where action = 'replay' and who = 'operator' and reason = 'mended'"))

	b.target.Set(422, `{"code":"invalid_price","detail":"still"}`)
	for i, want := range []string{"refused", "refused", "skipped"} { // MAX_REPLAYS is 2 here
		v = b.finish(t, b.replayMany(t, `{"rate_per_second":1000}`))
		require.EqualValues(t, 3, v.Outcomes[want], "round %d: %v", i, v.Outcomes)
		require.Equal(t, map[string]int64{[]string{"invalid_price", "invalid_price", "replay_limit"}[i]: 3}, v.Reasons)
		require.Equal(t, "completed", v.Status)
	}
	require.Equal(t, 9, b.count(t, "select sum(failure_count) from dead_letters where symbol = 'B'"))

	status, list := b.do(t, http.MethodGet, "/dlq/replays?limit=3", "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, list["replays"], 3)
	status, list = b.do(t, http.MethodGet, fmt.Sprint("/dlq/replays?limit=3&page_token=", list["next_page_token"]), "")
	require.Equal(t, http.StatusOK, status)
	require.Len(t, list["replays"], 1)
	require.Nil(t, list["next_page_token"])
}

func TestBulkWithNothingToDoIsCompleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.finish(t, b.replayMany(t, `{}`))
	require.Equal(t, "completed", v.Status)
	require.Zero(t, v.Matched)
}

// A dry run asks the function what it would do, and changes nothing.
func TestBulkDryRunPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 5)
	before := b.count(t, "select count(*) from dead_letter_audit")
	for verdict, outcome := range map[string]string{"applied": "resolved", "duplicate": "resolved", "dead_letter": "refused"} {
		b.target.Set(200, `{"verdict":"`+verdict+`"}`)
		v := b.finish(t, b.replayMany(t, `{"dry_run":true,"rate_per_second":1000}`))
		require.True(t, v.DryRun)
		require.Equal(t, "completed", v.Status)
		require.EqualValues(t, 5, v.Outcomes[outcome])
	}
	for _, path := range b.target.Paths {
		require.Equal(t, "/dry-run", path)
	}
	require.Equal(t, before, b.count(t, "select count(*) from dead_letter_audit"))
	require.Equal(t, 5, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_count = 0 and failure_count = 1"))
}

// While the function is unavailable, the next letter would get no verdict, either: the replay pauses, and a later tick tries one letter
// first.
func TestBulkRestsInTroubleAndGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 50)
	b.target.Set(503, "")
	v := b.replayMany(t, `{"rate_per_second":100}`) // ten at a time, in four lanes
	b.tick(t)
	v = b.bulk(t, v.ID)
	require.Equal(t, "running", v.Status)
	require.Zero(t, v.Done)
	require.Equal(t, "the function answers with status 503", *v.Trouble)
	spared := b.target.Events()
	require.LessOrEqual(t, spared, 40, "others were spared")
	require.Equal(t, 1, b.count(t, `
		with longer as (update dead_letter_replays set lease_expires_at = now() + interval '1 hour' where lease_expires_at > now() returning id)
		select count(*) from longer`), "it is paused")
	b.tick(t)
	require.Equal(t, spared, b.target.Events())
	for i := range 2 * replay.MaxTroubles { // a long outage uses up nobody's replays
		b.exec(t, "update dead_letter_replays set lease_expires_at = now()")
		b.tick(t)
		require.Equal(t, spared+1+i, b.target.Events(), "one letter is tried")
	}
	require.Zero(t, b.count(t, "select sum(replay_count + replay_troubles) from dead_letters"))
	require.Equal(t, 50, b.count(t, "select count(*) from dead_letters where status = 'open'"))
	b.target.Set(204, "")
	b.exec(t, "update dead_letter_replays set lease_expires_at = now()")
	v = b.finish(t, v)
	require.Equal(t, "completed", v.Status)
	require.EqualValues(t, 50, v.Outcomes["resolved"])
	require.Nil(t, v.Trouble)
}

func TestBulkKeepsToItsRateAndIsCancelled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 50)
	began := time.Now()
	v := b.replayMany(t, `{"rate_per_second":20}`)
	require.Equal(t, "running", v.Status)
	require.Eventually(t, func() bool { return b.target.Events() > 10 }, 10*time.Second, time.Millisecond)
	require.LessOrEqual(t, float64(b.target.Events()), 20*time.Since(began).Seconds()+2)
	status, body := b.do(t, http.MethodDelete, "/dlq/replays/"+v.ID.String(), "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "cancelled", body["status"])
	require.Equal(t, "operator", body["cancelled_by"])
	b.bulks.Wait(10 * time.Second)
	sent := b.target.Events()
	require.LessOrEqual(t, sent, 30)
	v = b.finish(t, v)
	require.Equal(t, sent, b.target.Events(), "cancelled at once")
	require.EqualValues(t, sent, v.Outcomes["resolved"], "letters in flight count")
	status, _ = b.do(t, http.MethodDelete, "/dlq/replays/"+v.ID.String(), "")
	require.Equal(t, http.StatusOK, status, "a second cancellation is not an error")
	b.exec(t, "update dead_letter_replays set cancelled_by = 'somebody else'")
	status, body = b.do(t, http.MethodDelete, "/dlq/replays/"+v.ID.String(), "")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "not_running", body["code"])
	status, body = b.do(t, http.MethodDelete, "/dlq/replays/"+uuid.NewString(), "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "replay_not_found", body["code"])
}

// Another process resumes a replay once the lease of a process that died has ended. Letters stored later are not part of the replay.
func TestBulkIsTakenOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 5)
	created, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 1000}, "", nil)
	require.NoError(t, err)
	_, ok, err := b.store.ClaimBulk(t.Context(), "another process")
	require.NoError(t, err)
	require.True(t, ok)
	b.save(t, "LATER", 2)
	b.tick(t)
	require.Zero(t, b.bulk(t, created.ID).Done, "another process has it")
	b.exec(t, "update dead_letter_replays set lease_expires_at = now()")
	b.tick(t)
	require.EqualValues(t, 5, b.bulk(t, created.ID).Outcomes["resolved"])
	require.Equal(t, 2, b.count(t, "select count(*) from dead_letters where status = 'open'"))
}

// However many ticks come at once, each letter is delivered once.
func TestBulkIsAdvancedByOneAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 200)
	_, err := b.store.CreateBulk(t.Context(), replay.Bulk{Target: replay.ToFunction, Rate: 1000}, "", nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { b.tick(t) })
	}
	wg.Wait()
	require.Len(t, b.target.Calls, 200)
	for id, n := range b.target.Calls {
		require.Equal(t, 1, n, id)
	}
}

// A copy for other consumers equals the record; a letter without a record is not sent.
func TestAnExactCopyIsSentToTheTopic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison))
	id := fmt.Sprint(b.only(t)["id"])
	status, body := b.do(t, http.MethodPost, "/dlq/messages/"+id+"/replay", `{"target":"topic","value":"{}"}`)
	require.Equal(t, http.StatusBadRequest, status, body)
	status, body = b.do(t, http.MethodPost, "/dlq/messages/"+id+"/replay", `{"target":"topic","reason":"for the archive"}`)
	require.Equal(t, http.StatusOK, status, body)
	require.Equal(t, "sent", body["status"])
	require.Empty(t, b.target.Paths)
	records := testenv.Records(t, testenv.Kafka(t), b.topic, 2)
	require.Equal(t, records[0].Key, records[1].Key)
	require.Equal(t, records[0].Value, records[1].Value)
	require.Equal(t, records[0].Headers, records[1].Headers)

	b.save(t, "A", 1)
	status, body = b.do(t, http.MethodPost, "/dlq/messages/"+b.id(t, "A")+"/replay", `{"target":"topic"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "not_exact", body["code"])
	for _, dry := range []string{"true", "false"} {
		v := b.finish(t, b.replayMany(t, `{"target":"topic","dry_run":`+dry+`}`))
		require.EqualValues(t, 1, v.Outcomes["skipped"])
		require.EqualValues(t, 1, v.Reasons["not_exact"])
	}
}

func (b bundle) id(t *testing.T, symbol string) (id string) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), "select id::text from dead_letters where symbol = $1", symbol).Scan(&id))
	return id
}

func TestBulkRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, body := range []string{
		`{"rate_per_second":0}`, `{"rate_per_second":10001}`, `{"target":"moon"}`, `{"filter":{"status":"resolved"}}`, `{"filter":{"since":"yesterday"}}`, `[]`,
	} {
		status, answer := b.do(t, http.MethodPost, "/dlq/replays", body)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Equal(t, "invalid_parameter", answer["code"], body)
	}
	require.Zero(t, b.count(t, "select count(*) from dead_letter_replays"))
}

// Groups are listed in pages: the group with the most open letters first, none twice.
func TestGroupsPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 7 {
		for j := range 1 + i/2 { // several groups of one size
			l := letter.Letter{Value: fmt.Append(nil, i, " ", j), Attributes: map[string]string{"id": fmt.Sprint(i, " ", j), "source": "/s"}}
			b.keep(t, l, deadletter.Failure{Code: "code_" + string(rune('a'+i)), Reason: "x", FailedAt: time.Now()})
		}
	}
	var sizes []float64
	codes := map[string]bool{}
	path, pages := "/dlq/groups?limit=2", 0
	for next := ""; ; {
		status, v := b.do(t, http.MethodGet, path+next, "")
		require.Equal(t, http.StatusOK, status)
		groups, ok := v["groups"].([]any)
		require.True(t, ok)
		for _, g := range groups {
			m, ok := g.(map[string]any)
			require.True(t, ok)
			open, ok := m["open"].(float64)
			require.True(t, ok)
			sizes = append(sizes, open)
			codes[fmt.Sprint(m["code"])] = true
		}
		if pages++; v["next_page_token"] == nil {
			break
		}
		next = fmt.Sprint("&page_token=", v["next_page_token"])
	}
	require.Equal(t, 4, pages)
	require.Equal(t, []float64{4, 3, 3, 2, 2, 1, 1}, sizes)
	require.Len(t, codes, 7)
	for _, bad := range []string{"%21", "bnVsbA", "e30x"} {
		status, _ := b.do(t, http.MethodGet, "/dlq/groups?page_token="+bad, "")
		require.Equal(t, http.StatusBadRequest, status)
	}
}

// The page needs no token, and only its own files may run in it.
func TestThePageIsServedUnderAStrictPolicy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, kind := range map[string]string{"/dlq": "text/html", "/dlq/page/app.js": "text/javascript", "/dlq/page/page.css": "text/css"} {
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Header().Get("Content-Type"), kind)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
		require.NotContains(t, w.Body.String(), "innerHTML")
	}
}

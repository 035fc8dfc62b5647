//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

// bundle is the function behind its HTTP API, with fake providers.
type bundle struct {
	polltest.Tables
	ingest *polltest.Ingest
	tick   *schedule.Ticker
	http   http.Handler
	kicks  *int
}

func setup(t *testing.T) bundle {
	t.Helper()
	return setupOn(t, polltest.NewTables(t))
}

func setupOn(t *testing.T, tables polltest.Tables) bundle {
	t.Helper()
	b := bundle{Tables: tables, ingest: &polltest.Ingest{}, kicks: new(int)}
	log := slog.New(slog.DiscardHandler)
	m := newMetrics(vm.NewSet(), nil)
	polls := store.New(b.Pool)
	b.tick = schedule.New(schedule.Config{
		Store: polls, Outbox: b.ingest, Log: log, Recorded: m.recorded, Swept: m.swept, Troubles: m.troubles([]string{"yfinance", "slow"}),
		Fetcher: fetch.New(fetch.Config{
			Budget: b.ingest, Ingest: b.ingest, Cache: polltest.NoCache{}, Chain: []string{"yfinance", "slow"}, Log: log, Count: m.fetched,
		}),
		Fresh: time.Minute, RawRetention: 48 * time.Hour, RunsRetention: 24 * time.Hour,
	})
	srv := service.New(service.Config{}, log)
	known := func(p string) bool { return p == "yfinance" || p == "finnhub" }
	historian := func(p string) market.Historian {
		if p == "yfinance" {
			return &polltest.Market{Called: p}
		}
		return nil
	}
	h := &handler{
		store: polls, known: known, defaultProvider: "yfinance", chain: b.tick.Fetcher.Chain, tick: b.tick.Run,
		backfills: &backfills{store: polls, known: known, historian: historian, defaultProvider: "yfinance", kick: func(context.Context) { *b.kicks++ }, now: time.Now},
	}
	client, prefix := testenv.Redis(t)
	limits := ratelimit.Config{Timeout: time.Minute, MaxCopies: 1, APIKeys: ratelimit.Keys(apiKey("alice") + "," + apiKey("bob"))}
	limiter := ratelimit.New(client, limits, log)
	policy := func(name string) ratelimit.Policy { // guarded: only the tests of keys send one
		return ratelimit.Policy{Name: prefix + name, Limit: ratelimit.Limit{N: 1000, Window: time.Minute}, Guarded: true}
	}
	h.routes(srv.Mux, api.New(srv, "poll", ""), limiter.Middleware(policy("poll")), limiter.Middleware(policy("default")))
	b.http = srv.Handler()
	return b
}

// apiKey returns the setting of a key that is the same as its client's name.
func apiKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return name + ":" + hex.EncodeToString(sum[:])
}

func (b bundle) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	b.http.ServeHTTP(w, r)
	return w
}

func (b bundle) create(t *testing.T, body string, header ...string) string {
	t.Helper()
	w := b.do(http.MethodPost, "/prices/poll", body, header...)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	var v struct {
		JobID string `json:"job_id"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	require.Equal(t, "/prices/poll/"+v.JobID, w.Header().Get("Location"))
	return v.JobID
}

func (b bundle) show(t *testing.T, id string) (v jobBody) {
	t.Helper()
	w := b.do(http.MethodGet, "/prices/poll/"+id, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&v))
	return v
}

func TestCreateAndRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.do(http.MethodPost, "/prices/poll", `{"symbols":["aapl","BAD","AAPL"]}`)
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Contains(t, w.Body.String(), `"status":"accepted","config":{"symbols":["AAPL","BAD"],"interval":60,"provider":"yfinance"}`)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	tick := b.do(http.MethodPost, "/", "{}", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "dev.knative.sources.ping")
	require.Equal(t, http.StatusNoContent, tick.Code)
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "yfinance BAD": 1}, b.ingest.Calls, "each series once, however many jobs want it")
	require.Equal(t, 1, b.ingest.Sweeps)
	require.Equal(t, 48*time.Hour, b.ingest.Dropped)
	v := b.show(t, id)
	require.EqualValues(t, 1, v.Runs)
	require.Zero(t, v.Failures)
	require.Equal(t, v.CreatedAt.Add(5*time.Second), *v.NextRunAt)
	require.Len(t, v.Results, 1)
	require.Equal(t, api.Number("1.5"), v.Results[0].Price)
	require.Equal(t, "yfinance", *v.Results[0].Provider)
	require.NotNil(t, v.Results[0].Timestamp)
	require.Nil(t, v.Results[0].Code)
	first := b.show(t, strings.TrimPrefix(w.Header().Get("Location"), "/prices/poll/"))
	require.EqualValues(t, 1, first.Failures)
	require.Equal(t, "symbol_not_found", *first.Results[1].Code)
	require.Empty(t, first.Results[1].Price)
	require.Nil(t, first.Results[1].Provider)
	require.Nil(t, first.Results[1].Timestamp)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 1, b.Runs(t, id), "not due again")
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for body, code := range map[string]string{
		`{}`: "invalid_parameter", `{"symbols":[]}`: "invalid_parameter", `{"symbols":["A B"]}`: "invalid_symbol", `{"symbols":["A"],"interval":4}`: "invalid_parameter",
		`{"symbols":["A"],"interval":86401}`: "invalid_parameter", `{"symbols":["A"],"provider":"nobody"}`: "unknown_provider", `{"symbols":["A"],"x":1}`: "invalid_parameter",
		`{"symbols":"A"}`: "invalid_parameter", `{"symbols":["A"],"interval":"5"}`: "invalid_parameter", `[`: "invalid_parameter",
	} {
		w := b.do(http.MethodPost, "/prices/poll", body)
		require.Equal(t, http.StatusBadRequest, w.Code, body)
		require.Contains(t, w.Body.String(), `"code":"`+code+`"`, body)
	}
	require.Equal(t, http.StatusNotFound, b.do(http.MethodGet, "/prices/poll/nope", "").Code)
	require.Equal(t, http.StatusNotFound, b.do(http.MethodDelete, "/prices/poll/nope", "").Code)
	require.Equal(t, http.StatusNotFound, b.do(http.MethodPost, "/prices/poll/nope/pause", "").Code)
	require.Equal(t, http.StatusBadRequest, b.do(http.MethodGet, "/prices/poll?status=weird", "").Code)
	require.Equal(t, http.StatusBadRequest, b.do(http.MethodGet, "/prices/poll?page_token=%21", "").Code)
	other := b.do(http.MethodPost, "/", "{}", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "other")
	require.Equal(t, http.StatusUnprocessableEntity, other.Code)
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := make(chan string, 10)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			w := b.do(http.MethodPost, "/prices/poll", `{"symbols":["AAPL"]}`, "Idempotency-Key", "k")
			ids <- w.Header().Get("Location")
		})
	}
	wg.Wait()
	first := <-ids
	require.NotEmpty(t, first)
	for range 9 {
		require.Equal(t, first, <-ids)
	}
	w := b.do(http.MethodPost, "/prices/poll", `{"symbols":["MSFT"]}`, "Idempotency-Key", "k")
	require.Equal(t, http.StatusConflict, w.Code)
	require.Contains(t, w.Body.String(), "idempotency_conflict")
	b.Exec(t, "update polling_idempotency_keys set created_at = now() - interval '25 hours'")
	require.NotEqual(t, first, "/prices/poll/"+b.create(t, `{"symbols":["MSFT"]}`, "Idempotency-Key", "k"), "kept for 24 hours")
	b.Exec(t, "update polling_idempotency_keys set created_at = now() - interval '25 hours'")
	require.NoError(t, b.tick.Run(t.Context()))
	var n int
	require.NoError(t, b.Pool.QueryRow(t.Context(), "select count(*) from polling_idempotency_keys").Scan(&n))
	require.Zero(t, n)
}

func TestIdempotencyKeysAreScopedToTheClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	made := map[string]string{}
	for _, key := range []string{"", "alice", "bob", "unknown", "alice", ""} {
		client := key
		if key == "unknown" {
			client = "" // known by its address
		}
		id := b.create(t, `{"symbols":["AAPL"]}`, "Idempotency-Key", "k", "X-API-Key", key)
		if made[client] != "" {
			require.Equal(t, made[client], id)
		}
		made[client] = id
	}
	require.Len(t, made, 3)
	require.NotEqual(t, made["alice"], made["bob"])
	require.NotEqual(t, made["alice"], made[""])
	rows, err := b.Pool.Query(t.Context(), "select client from polling_idempotency_keys order by 1")
	require.NoError(t, err)
	clients, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.1", "key:alice", "key:bob"}, clients, "names, never keys")
}

func TestPauseResumeDelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/pause", "").Code)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Zero(t, b.Runs(t, id))
	require.Equal(t, "paused", b.show(t, id).Status)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/resume", "").Code)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 1, b.Runs(t, id))
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/prices/poll/"+id, "").Code)
	require.Equal(t, http.StatusNotFound, b.do(http.MethodGet, "/prices/poll/"+id, "").Code)
}

func TestListPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := map[string]bool{}
	for range 5 {
		want[b.create(t, `{"symbols":["AAPL"]}`)] = true
	}
	token, pages := "", 0
	for {
		w := b.do(http.MethodGet, "/prices/poll?status=active&limit=2&page_token="+token, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		var v struct {
			Jobs []jobBody
			Next *string `json:"next_page_token"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
		for _, j := range v.Jobs {
			require.True(t, want[j.JobID])
			delete(want, j.JobID)
		}
		if pages++; v.Next == nil {
			break
		}
		token = *v.Next
	}
	require.Equal(t, 3, pages)
	require.Empty(t, want)
	w := b.do(http.MethodGet, "/prices/poll?limit=2&page_token="+token, "")
	require.Equal(t, http.StatusBadRequest, w.Code, "the token is of another query")
}

func TestDatabaseErrorsAre503(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Exec(t, "alter table polling_jobs rename to away")
	w := b.do(http.MethodPost, "/", "{}", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "dev.knative.sources.ping")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "PingSource retries it")
}

func TestRunsPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL","BAD"]}`)
	for range 5 {
		require.NoError(t, b.tick.Run(t.Context()))
		b.Age(t)
	}
	var all []runBody
	token, pages := "", 0
	for {
		w := b.do(http.MethodGet, "/prices/poll/"+id+"/runs?limit=2&page_token="+token, "")
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		var v struct {
			Runs []runBody
			Next *string `json:"next_page_token"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
		all = append(all, v.Runs...)
		if pages++; v.Next == nil {
			break
		}
		token = *v.Next
	}
	require.Equal(t, 3, pages)
	require.Len(t, all, 5)
	for i, r := range all {
		require.Equal(t, 1, r.Failed)
		require.True(t, i == 0 || r.ScheduledAt.Before(all[i-1].ScheduledAt), "newest first")
	}
	require.Equal(t, http.StatusNotFound, b.do(http.MethodGet, "/prices/poll/nope/runs", "").Code)
	for _, bad := range []string{"%21", "bm90IGEgdGltZQ"} {
		require.Equal(t, http.StatusBadRequest, b.do(http.MethodGet, "/prices/poll/"+id+"/runs?page_token="+bad, "").Code)
	}
}

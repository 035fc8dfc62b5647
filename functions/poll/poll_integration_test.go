//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

type fakeIngest struct {
	mu      sync.Mutex
	calls   map[string]int
	order   []market.Symbol
	planned map[market.Symbol]time.Time
	during  func(symbol market.Symbol)
	reserve func(provider string) error                                            // nil: there is room
	answer  func(ctx context.Context, provider string, symbol market.Symbol) error // what comes of a call, before its quote
	sweeps  int
	// sweepHangs is a broker that does not answer.
	sweepHangs bool
	dropped    time.Duration
}

func (f *fakeIngest) Reserve(_ context.Context, provider string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reserve == nil {
		return nil
	}
	return f.reserve(provider)
}

func (f *fakeIngest) FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (ingest.Result, error) {
	f.mu.Lock()
	during, answer := f.during, f.answer
	f.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, provider, symbol); err != nil {
			return ingest.Result{}, err
		}
	}
	f.mu.Lock()
	f.calls[provider+" "+string(symbol)]++
	f.order = append(f.order, symbol)
	f.planned[symbol] = planned
	f.mu.Unlock()
	if during != nil {
		during(symbol)
	}
	if symbol == "BAD" {
		return ingest.Result{}, fault.New(fault.NotFound, "symbol_not_found", "x")
	}
	p, err := market.ParsePrice("1.5")
	if err != nil {
		return ingest.Result{}, err
	}
	return ingest.Result{Quote: market.Quote{Symbol: symbol, Provider: provider, Price: p, ObservedAt: time.Now().UTC().Truncate(time.Microsecond)}}, nil
}

func (f *fakeIngest) Sweep(ctx context.Context, _ int) (int, error) {
	f.mu.Lock()
	f.sweeps++
	hangs := f.sweepHangs
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return 0, nil
}

func (f *fakeIngest) DropBodies(_ context.Context, age time.Duration, _ int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = age
	return 0, nil
}

// limited is what the ingester says of a budget that has room after wait, and a provider of itself.
func limited(wait time.Duration) error {
	return fault.New(fault.Unavailable, "provider_rate_limited", "x").After(wait)
}

type noCache struct{}

func (noCache) Put(context.Context, market.Quote, uuid.UUID) (pricecache.Entry, error) {
	return pricecache.Entry{}, nil
}

type bundle struct {
	store  *pgStore
	ingest *fakeIngest
	tick   *ticker
	http   http.Handler
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{store: &pgStore{pool: testenv.Postgres(t)}, ingest: &fakeIngest{calls: map[string]int{}, planned: map[market.Symbol]time.Time{}}}
	log := slog.New(slog.DiscardHandler)
	b.tick = &ticker{store: b.store, ingest: b.ingest, cache: noCache{}, log: log, metrics: newMetrics(vm.NewSet()), retention: 48 * time.Hour}
	srv := service.New("poll", "", service.Config{}, log)
	h := &handler{store: b.store, known: func(p string) bool { return p == "yfinance" }, defaultProvider: "yfinance", tick: b.tick}
	client, prefix := testenv.Redis(t)
	limits := ratelimit.Config{Timeout: time.Minute, MaxCopies: 1}
	require.NoError(t, limits.APIKeys.UnmarshalText([]byte(apiKey("alice")+","+apiKey("bob"))))
	limiter := ratelimit.New(client, limits, log)
	policy := func(name string) ratelimit.Policy { // guarded: only the tests that are about keys send one
		return ratelimit.Policy{Name: prefix + name, Limit: ratelimit.Limit{N: 1000, Window: time.Minute}, Guarded: true}
	}
	h.routes(srv, limiter.Middleware(policy("poll")), limiter.Middleware(policy("default")))
	b.http = srv.Handler()
	return b
}

// apiKey configures a key that is its client's name.
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

func (b bundle) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := b.store.pool.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func (b bundle) runs(t *testing.T, id string) (n int) {
	t.Helper()
	require.NoError(t, b.store.pool.QueryRow(t.Context(), "select count(*) from polling_runs where job_id = $1", id).Scan(&n))
	return n
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
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "yfinance BAD": 1}, b.ingest.calls, "each series once however many jobs want it")
	require.Equal(t, 1, b.ingest.sweeps)
	require.Equal(t, 48*time.Hour, b.ingest.dropped)
	v := b.show(t, id)
	require.EqualValues(t, 1, v.Runs)
	require.Zero(t, v.Failures)
	require.Equal(t, v.CreatedAt.Add(5*time.Second), v.NextRunAt)
	require.Len(t, v.Results, 1)
	require.Equal(t, service.Number("1.5"), v.Results[0].Price)
	first := b.show(t, strings.TrimPrefix(w.Header().Get("Location"), "/prices/poll/"))
	require.EqualValues(t, 1, first.Failures)
	require.Equal(t, "symbol_not_found", *first.Results[1].Code)
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id), "not due again")
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
	b.exec(t, "update polling_idempotency_keys set created_at = now() - interval '25 hours'")
	require.NotEqual(t, first, "/prices/poll/"+b.create(t, `{"symbols":["MSFT"]}`, "Idempotency-Key", "k"), "kept for 24 hours")
	b.exec(t, "update polling_idempotency_keys set created_at = now() - interval '25 hours'")
	require.NoError(t, b.tick.run(t.Context()))
	var n int
	require.NoError(t, b.store.pool.QueryRow(t.Context(), "select count(*) from polling_idempotency_keys").Scan(&n))
	require.Zero(t, n)
}

func TestIdempotencyKeysAreEachClientsOwn(t *testing.T) {
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
	rows, err := b.store.pool.Query(t.Context(), "select client from polling_idempotency_keys order by 1")
	require.NoError(t, err)
	clients, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.1", "key:alice", "key:bob"}, clients, "names, never keys")
}

func TestOverlappingTicksRunAPeriodOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() { errs <- b.tick.run(context.Background()) })
	}
	wg.Wait()
	for range 8 {
		require.NoError(t, <-errs)
	}
	require.Equal(t, 1, b.runs(t, id))
	require.Equal(t, 1, b.ingest.calls["yfinance AAPL"])
}

func TestMissedPeriodsRunOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	b.exec(t, "update polling_jobs set created_at = created_at - interval '17 seconds', next_run_at = created_at - interval '17 seconds'")
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	v := b.show(t, id)
	require.Equal(t, v.CreatedAt.Add(20*time.Second), v.NextRunAt)
}

// A tick that is slower than its lease fetches, but the run is the other's.
func TestTakeoverRecordsOneRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	taken := false
	b.ingest.during = func(market.Symbol) {
		if taken {
			return
		}
		taken = true
		b.exec(t, "update polling_jobs set lease_expires_at = now() - interval '1 second'")
		require.NoError(t, b.tick.run(t.Context()))
		require.Equal(t, 1, b.runs(t, id))
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	require.EqualValues(t, 1, b.show(t, id).Runs)
	require.Equal(t, 2, b.ingest.calls["yfinance AAPL"])
}

func TestPauseResumeDelete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"interval":5}`)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/pause", "").Code)
	require.NoError(t, b.tick.run(t.Context()))
	require.Zero(t, b.runs(t, id))
	require.Equal(t, "paused", b.show(t, id).Status)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/resume", "").Code)
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
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
}

func TestDatabaseTroubleIs503(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, "alter table polling_jobs rename to away")
	w := b.do(http.MethodPost, "/", "{}", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "dev.knative.sources.ping")
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "which PingSource tries again")
}

// due makes jobs of a minute due again, for another period.
func (b bundle) due(t *testing.T) {
	t.Helper()
	b.exec(t, "update polling_jobs set created_at = created_at - interval '61 seconds', next_run_at = now()")
}

func (b bundle) codes(t *testing.T, id string) map[market.Symbol]string {
	t.Helper()
	codes := map[market.Symbol]string{}
	for _, r := range b.show(t, id).Results {
		codes[r.Symbol] = "ok"
		if r.Code != nil {
			codes[r.Symbol] = *r.Code
		}
	}
	return codes
}

// A budget for two calls a tick serves a job of five symbols in turn, and another job's wish for one of them does not push it
// to the front.
func TestSymbolsTakeTurnsWithinABudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["A","B","C","D","E"]}`)
	room := 0
	b.ingest.reserve = func(string) error {
		if room == 0 {
			return limited(time.Hour)
		}
		room--
		return nil
	}
	for i, want := range [][]market.Symbol{{"A", "B"}, {"C", "D"}, {"E", "A"}, {"B", "C"}} {
		room, b.ingest.order = 2, nil
		require.NoError(t, b.tick.run(t.Context()))
		require.ElementsMatch(t, want, b.ingest.order, "tick %d", i)
		codes := b.codes(t, id)
		for _, s := range []market.Symbol{"A", "B", "C", "D", "E"} {
			expected := "provider_rate_limited"
			if slices.Contains(want, s) {
				expected = "ok"
			}
			require.Equal(t, expected, codes[s], "tick %d, %s", i, s)
		}
		b.due(t)
		if i == 1 {
			b.create(t, `{"symbols":["A"]}`)
			b.exec(t, "update polling_jobs set next_run_at = now() + interval '1 hour' where cardinality(symbols) = 1")
		}
	}
}

func TestATickWaitsForABudgetThatHasRoomInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["A","B","C"]}`)
	refusals := 0
	b.ingest.reserve = func(string) error {
		if refusals++; refusals%2 == 1 {
			return limited(20 * time.Millisecond)
		}
		return nil
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, map[market.Symbol]string{"A": "ok", "B": "ok", "C": "ok"}, b.codes(t, id))
	require.Zero(t, b.show(t, id).Failures)
}

// A provider that refuses by itself is left alone for as long as it says; it was nobody's turn.
func TestAProviderThatRefusesIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	symbols := make([]string, 40)
	for i := range symbols {
		symbols[i] = fmt.Sprintf("%q", fmt.Sprint("S", i))
	}
	id := b.create(t, `{"symbols":[`+strings.Join(symbols, ",")+`]}`)
	asked := 0
	b.ingest.answer = func(context.Context, string, market.Symbol) error {
		b.ingest.mu.Lock()
		defer b.ingest.mu.Unlock()
		asked++
		return limited(time.Hour)
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.LessOrEqual(t, asked, 2*fetchers)
	require.Len(t, b.codes(t, id), 40)
	var attempted int
	require.NoError(t, b.store.pool.QueryRow(t.Context(), "select count(attempted_at) from polling_results").Scan(&attempted))
	require.Zero(t, attempted)
}

// A budget that is being waited for holds up its own provider alone: another's job is fetched, recorded and due again meanwhile.
func TestProvidersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var slow []market.Symbol
	for i := range 2 * fetchers {
		slow = append(slow, market.Symbol(fmt.Sprint("S", i)))
	}
	_, err := b.store.create(t.Context(), jobConfig{Symbols: slow, Interval: 60, Provider: "slow"}, "", "")
	require.NoError(t, err)
	id := b.create(t, `{"symbols":["AAPL"]}`)
	stopping := make(chan struct{})
	b.tick.stopping = stopping
	b.ingest.reserve = func(provider string) error {
		if provider == "slow" {
			return limited(10 * time.Second)
		}
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- b.tick.run(context.Background()) }()
	require.Eventually(t, func() bool { return b.runs(t, id) == 1 }, 5*time.Second, time.Millisecond)
	require.Empty(t, ended)
	close(stopping)
	require.NoError(t, <-ended)
}

// A function that is told to stop makes no more calls. What it has is recorded, and what it did not come to is first next time.
func TestATickThatIsStoppedRecordsWhatItHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	symbols := make([]string, 3*fetchers)
	for i := range symbols {
		symbols[i] = fmt.Sprintf("%q", fmt.Sprint("S", i))
	}
	id := b.create(t, `{"symbols":[`+strings.Join(symbols, ",")+`]}`)
	stopping := make(chan struct{})
	b.tick.stopping = stopping
	entered := 0
	b.ingest.sweepHangs = true
	b.ingest.answer = func(ctx context.Context, _ string, _ market.Symbol) error {
		b.ingest.mu.Lock()
		if entered++; entered == fetchers {
			close(stopping)
		}
		b.ingest.mu.Unlock()
		<-ctx.Done()
		return nil // it was under way, and ended well
	}
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 1, b.runs(t, id))
	count := map[string]int{}
	for _, code := range b.codes(t, id) {
		count[code]++
	}
	require.Equal(t, map[string]int{"ok": fetchers, "out_of_time": 2 * fetchers}, count)
	first := slices.Clone(b.ingest.order)
	b.due(t)
	b.tick.stopping, b.ingest.answer, b.ingest.order, b.ingest.sweepHangs = nil, nil, nil, false
	require.NoError(t, b.tick.run(t.Context()))
	for _, s := range b.ingest.order[:fetchers] {
		require.NotContains(t, first, s)
	}
	require.Len(t, b.ingest.order, 3*fetchers)
}

// A series that several jobs want is planned for the earliest of their periods.
func TestAFetchIsPlannedForTheEarliestPeriod(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.create(t, `{"symbols":["A","B"]}`)
	b.create(t, `{"symbols":["B","C"]}`)
	b.exec(t, "update polling_jobs set created_at = created_at - interval '10 seconds' where id = $1", first)
	var periods []time.Time
	rows, err := b.store.pool.Query(t.Context(), "select created_at from polling_jobs order by id")
	require.NoError(t, err)
	periods, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
	require.NoError(t, err)
	require.NoError(t, b.tick.run(t.Context()))
	for symbol, i := range map[market.Symbol]int{"A": 0, "B": 0, "C": 1} {
		require.True(t, periods[i].Equal(b.ingest.planned[symbol]), symbol)
	}
}

func TestRunsPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL","BAD"]}`)
	for range 5 {
		require.NoError(t, b.tick.run(t.Context()))
		b.due(t)
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

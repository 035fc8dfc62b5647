package health_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/health"
	"marketdata/local/kafkasource"
	"marketdata/local/serving"
)

// replica serves metrics and, to the operator, the counts of dead letters.
func replica(t *testing.T, metrics string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(metrics)) })
	guarded := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer secret" {
				w.WriteHeader(http.StatusUnauthorized)
			}
			_, _ = w.Write([]byte(body))
		}
	}
	mux.HandleFunc("GET /dlq/stats", guarded(`{"statuses":{"open":6,"resolved":4}}`))
	mux.HandleFunc("GET /dlq/groups", guarded(`{"groups":[{"code":"undecodable","open":3},{"code":"no_data","open":1},{"code":"invalid_price","open":2},{"code":"no_data","open":0},{"code":"invalid_price","open":1},{"code":"panic","open":0}]}`))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func report(t *testing.T, o health.Options) (r health.Report) {
	t.Helper()
	w := httptest.NewRecorder()
	health.New(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/page/health", nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &r))
	return r
}

func states(r health.Report) map[string]string {
	all := map[string]string{}
	for _, f := range r.Functions {
		all[f.Function] = f.State
	}
	return all
}

var names = []string{"get-latest", "poll", "compute-ma", "dlq-inspector"}

func TestReport(t *testing.T) {
	t.Parallel()
	replicas := map[string][]string{
		"get-latest": {
			replica(t, "marketdata_limiter_degraded 0\nmarketdata_provider_budget_left{provider=\"yfinance\",window=\"1m\"} 12\nmarketdata_provider_budget_left{provider=\"binance\",window=\"1m\"} 5\n"),
			replica(t, "marketdata_limiter_degraded 1\nmarketdata_provider_budget_left{provider=\"yfinance\",window=\"1m\"} 7\nmarketdata_dependency_up{dependency=\"redis\"} 0\nmarketdata_dependency_up{dependency=\"postgres\"} 1\n"),
		},
		"poll":          {replica(t, "# TYPE marketdata_outbox_rows gauge\nmarketdata_outbox_rows 3\nmarketdata_outbox_oldest_age_seconds 1.5\n")},
		"compute-ma":    {replica(t, "marketdata_compute_ma_events_total{outcome=\"inserted\"} 40\nmarketdata_compute_ma_events_total{outcome=\"duplicate\"} 2\n"), replica(t, "marketdata_compute_ma_events_total{outcome=\"inserted\"} 1\n")},
		"dlq-inspector": {replica(t, "")},
	}
	waiting, delay, limiter := int64(5), 12.5, "degraded"
	got := report(t, health.Options{
		Functions: names, Replicas: func() map[string][]string { return replicas }, Token: "secret",
		Sources: func() map[string]kafkasource.Status {
			return map[string]kafkasource.Status{"compute-ma": {Waiting: waiting, Delay: 12500 * time.Microsecond}}
		},
	})
	up := func(name string, replicas int, missing ...string) health.Function {
		return health.Function{Function: name, State: "up", Replicas: replicas, Answering: replicas, Missing: append([]string{}, missing...)}
	}
	require.Equal(t, health.Report{
		Functions:   []health.Function{up("get-latest", 2, "redis"), up("poll", 1), up("compute-ma", 2), up("dlq-inspector", 1)},
		Events:      &health.Events{Handled: 43, Waiting: &waiting, DelayMS: &delay},
		Outbox:      &health.Outbox{Rows: 3, OldestSeconds: 1.5},
		DeadLetters: &health.DeadLetters{Open: 6, Causes: []health.Cause{{Code: "invalid_price", Open: 3}, {Code: "undecodable", Open: 3}, {Code: "no_data", Open: 1}}},
		Limiter:     &limiter,
		Budgets:     []health.Budget{{Provider: "binance", Window: "1m", Left: 5}, {Provider: "yfinance", Window: "1m", Left: 7}},
	}, got)
}

// Functions that hang, are gone, are scaled to zero or do not run here leave their parts out, and the rest is there in time.
func TestReportWithoutFunctions(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(release) })
	gone := httptest.NewServer(nil)
	gone.Close()
	replicas := map[string][]string{"get-latest": {hangs.URL, replica(t, "marketdata_limiter_degraded 0\n")}, "poll": {gone.URL}, "dlq-inspector": {hangs.URL}}
	o := health.Options{Functions: names, Replicas: func() map[string][]string { return replicas }, Token: "secret"}
	began := time.Now()
	r := report(t, o)
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, map[string]string{"get-latest": "partly", "poll": "unavailable", "compute-ma": "not_running", "dlq-inspector": "unavailable"}, states(r))
	require.Nil(t, r.Events)
	require.Nil(t, r.Outbox)
	require.Nil(t, r.DeadLetters)
	require.Equal(t, "shared", *r.Limiter)
	require.NotNil(t, r.Budgets)

	replicas = map[string][]string{}
	o.Scale = func() []serving.Status {
		return []serving.Status{{Function: "poll", Replicas: 1, ColdStarts: 3, P50: 61.5}, {Function: "compute-ma"}}
	}
	r = report(t, o)
	require.Equal(t, map[string]string{"get-latest": "not_running", "poll": "starting", "compute-ma": "asleep", "dlq-inspector": "not_running"}, states(r))
	require.Equal(t, &serving.Status{Function: "poll", Replicas: 1, ColdStarts: 3, P50: 61.5}, r.Functions[1].Scale)
	require.Nil(t, r.Limiter)
	require.Nil(t, r.Budgets)
}

// Prometheus finds the replicas, and the metrics of the local runtime.
func TestForPrometheus(t *testing.T) {
	t.Parallel()
	o := health.Options{
		Functions: []string{"poll", "compute-ma"},
		Replicas: func() map[string][]string {
			return map[string][]string{"poll": {"http://127.0.0.1:1234", "http://poll:8080"}}
		},
		Scale: func() []serving.Status {
			return []serving.Status{{Function: "poll", Replicas: 2, ColdStarts: 5}, {Function: "compute-ma", Waiting: 3}}
		},
	}
	get := func(path string) string {
		w := httptest.NewRecorder()
		health.New(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, w.Code)
		return w.Body.String()
	}
	require.JSONEq(t, `[{"targets":["127.0.0.1:1234","poll:8080"],"labels":{"function":"poll"}},{"targets":[],"labels":{"function":"compute-ma"}}]`, get("/metrics/targets"))
	text := get("/metrics")
	for _, line := range []string{
		`marketdata_function_replicas{function="poll"} 2`, `marketdata_function_cold_starts_total{function="poll"} 5`,
		`marketdata_function_asleep{function="poll"} 0`, `marketdata_function_asleep{function="compute-ma"} 1`,
		`marketdata_function_waiting_requests{function="compute-ma"} 3`,
	} {
		require.Contains(t, text, line+"\n")
	}
}

// However many pages ask, a replica is asked once a second.
func TestReportsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := health.New(health.Options{Functions: names, Replicas: func() map[string][]string { asked++; return nil }})
		for range 30 { // three seconds
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/page/health", nil))
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 3, asked)
	})
}

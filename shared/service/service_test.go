package service_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
	"marketdata/shared/testenv/scrape"
)

func newService(t *testing.T, checks ...service.Check) (*service.Service, *bytes.Buffer) {
	t.Helper()
	var logs bytes.Buffer
	return service.New(service.Config{}, slog.New(slog.NewJSONHandler(&logs, nil)), checks...), &logs
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	w := call.Do(s.Handler(), http.MethodGet, "/nothing", "")
	require.Equal(t, "route_not_found", call.Problem(t, w).Code)
	w = call.Do(s.Handler(), http.MethodPut, "/healthz", "")
	require.Equal(t, "method_not_allowed", call.Problem(t, w).Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

// The mux would redirect a path that is not clean. Such a path is an unknown route.
func TestUncleanPathsAreUnknownRoutes(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	w := call.Do(s.Handler(), http.MethodGet, "/no/../thing", "")
	require.Equal(t, "route_not_found", call.Problem(t, w).Code)
	require.Empty(t, w.Header().Get("Location"))
}

func TestAPanicIsAnsweredLoggedAndCounted(t *testing.T) {
	t.Parallel()
	s, logs := newService(t)
	s.Mux.HandleFunc("GET /early", func(http.ResponseWriter, *http.Request) { panic("boom") })
	s.Mux.HandleFunc("GET /given-up", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("half"))
		request.NoteError(r.Context(), errors.New("the table is gone"))
		panic(http.ErrAbortHandler)
	})
	s.Mux.HandleFunc("GET /late", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("boom") })
	w := call.Do(s.Handler(), http.MethodGet, "/early", "")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "internal", call.Problem(t, w).Code)
	require.NotContains(t, w.Body.String(), "boom")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { call.Do(s.Handler(), http.MethodGet, "/late", "") }, "net/http closes the connection")
	require.Equal(t, 2, strings.Count(logs.String(), `"err":"panic: boom`))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { call.Do(s.Handler(), http.MethodGet, "/given-up", "") })
	require.Contains(t, logs.String(), `"err":"the table is gone"`, "its handler has noted why")
	require.Contains(t, logs.String(), `"level":"ERROR"`)
	values := scrape.Values(t, s.Metrics.WritePrometheus)
	require.InDelta(t, 1, values[`http_requests_total{route="GET /early",status="500"}`], 0)
	require.InDelta(t, 1, values[`http_requests_total{route="GET /late",status="200"}`], 0)
}

func TestRequestIDIsEchoedOrGenerated(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	require.Equal(t, "abc-1", call.Do(s.Handler(), http.MethodGet, "/healthz", "", "X-Request-ID", "abc-1").Header().Get("X-Request-ID"))
	made := call.Do(s.Handler(), http.MethodGet, "/healthz", "", "X-Request-ID", "no\"good\n").Header().Get("X-Request-ID")
	require.Len(t, made, 36)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	call.Do(s.Handler(), http.MethodGet, "/healthz", "")
	call.Do(s.Handler(), http.MethodGet, "/nothing", "")
	w := call.Do(s.Handler(), http.MethodGet, "/metrics", "")
	values := scrape.Values(t, func(to io.Writer) { _, _ = w.Body.WriteTo(to) })
	require.InDelta(t, 1, values[`http_requests_total{route="GET /healthz",status="200"}`], 0)
	require.InDelta(t, 1, values[`http_requests_total{route="none",status="404"}`], 0)
	require.InDelta(t, 1, values[`http_request_duration_seconds_bucket{route="GET /healthz",le="+Inf"}`], 0)
	require.Positive(t, values["process_resident_memory_bytes"])
	require.NotContains(t, values, `http_requests_total{route="GET /metrics",status="200"}`, "a request is counted after its answer")
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	v := struct{ DSN service.Secret }{"postgres://u:hunter2@h/d"}
	var logs bytes.Buffer
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("config", "config", v, "dsn", v.DSN)
	b, err := json.Marshal(v)
	require.NoError(t, err)
	for _, text := range []string{logs.String(), string(b)} {
		require.NotContains(t, text, "hunter2")
		require.Contains(t, text, "REDACTED")
	}
}

func TestLoggedEventIDsAndMethodsAreBounded(t *testing.T) {
	t.Parallel()
	s, logs := newService(t)
	s.Mux.HandleFunc("POST /refused", func(w http.ResponseWriter, r *http.Request) {
		request.NoteEvent(r.Context(), r.Header.Get("Ce-Id"))
		problem.WriteEvent(w, r, fault.New(fault.Invalid, "bad", "x"))
	})
	call.Do(s.Handler(), http.MethodPost, "/refused", "", "Ce-Id", strings.Repeat("y", 900_000))
	require.Contains(t, logs.String(), `"event_id":"yyy`)
	require.Less(t, logs.Len(), 1000)
	logs.Reset()
	call.Do(s.Handler(), strings.Repeat("M", 100_000), "/", "")
	require.Less(t, logs.Len(), 1000)
}

func TestAnswersAreNotCachedOrSniffed(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	s.Mux.HandleFunc("GET /cached", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "max-age=5") })
	for _, target := range []string{"/healthz", "/metrics", "/nothing"} {
		w := call.Do(s.Handler(), http.MethodGet, target, "")
		require.Equal(t, []string{"no-store"}, w.Header().Values("Cache-Control"), target)
		require.Equal(t, []string{"nosniff"}, w.Header().Values("X-Content-Type-Options"), target)
	}
	require.Equal(t, []string{"max-age=5"}, call.Do(s.Handler(), http.MethodGet, "/cached", "").Header().Values("Cache-Control"))
	require.Equal(t, []string{"no-store"}, call.Do(s.Handler(), http.MethodPut, "/cached", "").Header().Values("Cache-Control"))
}

package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/service"
	"marketdata/shared/testenv/scrape"
)

func newService(t *testing.T, checks ...service.Check) (*service.Service, *bytes.Buffer) {
	t.Helper()
	var logs bytes.Buffer
	return service.New("test", "A test.", service.Config{}, slog.New(slog.NewJSONHandler(&logs, nil)), checks...), &logs
}

func do(s *service.Service, method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	s.Handler().ServeHTTP(w, r)
	return w
}

func problem(t *testing.T, w *httptest.ResponseRecorder) service.Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), w.Body.String())
	var p service.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, w.Code, p.Status)
	require.Equal(t, w.Header().Get("X-Request-ID"), p.RequestID)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Type)
	return p
}

func TestRoutesAndMethodsThatDoNotExistAreProblems(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	w := do(s, http.MethodGet, "/nothing", "")
	require.Equal(t, "route_not_found", problem(t, w).Code)
	w = do(s, http.MethodPut, "/healthz", "")
	require.Equal(t, "method_not_allowed", problem(t, w).Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

// A path that is not clean is no way around the routes: the mux would redirect, and what it says of its own is a problem, too.
func TestWhatTheMuxSaysIsAProblem(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	w := do(s, http.MethodGet, "/no/../thing", "")
	require.Equal(t, "route_not_found", problem(t, w).Code)
	require.Empty(t, w.Header().Get("Location"))
}

func TestAPanicIsAnsweredLoggedAndCounted(t *testing.T) {
	t.Parallel()
	s, logs := newService(t)
	s.Mux.HandleFunc("GET /early", func(http.ResponseWriter, *http.Request) { panic("boom") })
	s.Mux.HandleFunc("GET /late", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("boom") })
	w := do(s, http.MethodGet, "/early", "")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "internal", problem(t, w).Code)
	require.NotContains(t, w.Body.String(), "boom")
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { do(s, http.MethodGet, "/late", "") }, "net/http closes the connection")
	require.Equal(t, 2, strings.Count(logs.String(), `"err":"panic: boom`))
	require.Contains(t, logs.String(), `"level":"ERROR"`)
	values := scrape.Values(t, s.Metrics.WritePrometheus)
	require.InDelta(t, 1, values[`http_requests_total{route="GET /early",status="500"}`], 0)
	require.InDelta(t, 1, values[`http_requests_total{route="GET /late",status="200"}`], 0)
}

func TestRequestIDIsEchoedOrMade(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	require.Equal(t, "abc-1", do(s, http.MethodGet, "/healthz", "", "X-Request-ID", "abc-1").Header().Get("X-Request-ID"))
	made := do(s, http.MethodGet, "/healthz", "", "X-Request-ID", "no\"good\n").Header().Get("X-Request-ID")
	require.Len(t, made, 36)
}

func TestReadyNamesEachDependencyAndShowsNoCause(t *testing.T) {
	t.Parallel()
	ok := service.Check{Name: "redis", Ping: func(context.Context) error { return nil }}
	bad := service.Check{Name: "postgres", Ping: func(context.Context) error { return errors.New("dial db.internal: password=x") }}
	s, _ := newService(t, ok)
	require.Equal(t, http.StatusOK, do(s, http.MethodGet, "/readyz", "").Code)
	s, _ = newService(t, ok, bad)
	for _, path := range []string{"/readyz", "/_/ready"} {
		w := do(s, http.MethodGet, path, "")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.JSONEq(t, `{"status":"not_ready","checks":{"redis":"ok","postgres":"unavailable"}}`, w.Body.String())
	}
	require.Equal(t, http.StatusOK, do(s, http.MethodGet, "/_/health", "").Code)
	bad.Optional = true
	s, _ = newService(t, ok, bad)
	w := do(s, http.MethodGet, "/readyz", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.JSONEq(t, `{"status":"ready","checks":{"redis":"ok","postgres":"unavailable"}}`, w.Body.String())
}

func TestDocsAndMetrics(t *testing.T) {
	t.Parallel()
	s, _ := newService(t)
	w := do(s, http.MethodGet, "/docs/", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "/openapi.json")
	require.NotContains(t, w.Body.String(), "https://cdn", "the assets are our own")
	w = do(s, http.MethodGet, "/docs/swagger-ui-bundle.js", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Greater(t, w.Body.Len(), 100_000)
	require.Equal(t, http.StatusNotFound, do(s, http.MethodGet, "/docs/nothing.js", "").Code)
	require.Equal(t, "/docs/", do(s, http.MethodGet, "/docs", "").Header().Get("Location"))
	w = do(s, http.MethodGet, "/openapi.json", "")
	require.Contains(t, w.Body.String(), `"openapi":"3.1.0"`)
	w = do(s, http.MethodGet, "/metrics", "")
	values := scrape.Values(t, func(to io.Writer) { _, _ = w.Body.WriteTo(to) })
	require.InDelta(t, 2, values[`http_requests_total{route="GET /docs/",status="200"}`], 0)
	require.InDelta(t, 4, values[`http_request_duration_seconds_bucket{route="GET /docs/",le="+Inf"}`], 0)
	require.Positive(t, values["process_resident_memory_bytes"])
	require.NotContains(t, values, `http_requests_total{route="GET /metrics",status="200"}`, "that is counted once it is answered")
}

type thing struct {
	Body struct {
		N int `json:"n" minimum:"1"`
	}
}

func TestAPIRefusesWhatItsDocumentDoesNotShow(t *testing.T) {
	t.Parallel()
	s, logs := newService(t)
	var failure error
	service.Handle(s, huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
		func(_ context.Context, in *thing) (*thing, error) { return in, failure })
	post := func(body string, header ...string) *httptest.ResponseRecorder {
		return do(s, http.MethodPost, "/things", body, append([]string{"Content-Type", "application/json"}, header...)...)
	}
	require.Equal(t, http.StatusOK, post(`{"n":1}`).Code)
	for name, body := range map[string]string{"unknown member": `{"n":1,"x":2}`, "wrong type": `{"n":"1"}`, "too small": `{"n":0}`, "no JSON": `{`, "empty": ``, "array": `[]`} {
		w := post(body)
		require.Equal(t, http.StatusBadRequest, w.Code, name)
		require.Equal(t, "invalid_parameter", problem(t, w).Code, name)
	}
	w := do(s, http.MethodPost, "/things?x=1", `{"n":1}`, "Content-Type", "application/json")
	require.Equal(t, "invalid_parameter", problem(t, w).Code)
	w = post(`{"n":1}`, "Content-Type", "text/xml")
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
	require.Equal(t, "unsupported_media_type", problem(t, w).Code)
	w = post(`{"n":` + strings.Repeat(" ", 1<<20) + `1}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, "body_too_large", problem(t, w).Code)

	failure = fault.Wrap(errors.New("dsn=secret"), fault.Unavailable, "storage_unavailable", "try later").After(1200 * time.Millisecond)
	logs.Reset()
	w = post(`{"n":1}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.Equal(t, "try later", problem(t, w).Detail)
	require.NotContains(t, w.Body.String(), "secret")
	require.Contains(t, logs.String(), "dsn=secret", "the log has the cause")
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

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
	w = do(s, http.MethodGet, "/openapi.json", "")
	require.Contains(t, w.Body.String(), `"openapi":"3.1.0"`)
	w = do(s, http.MethodGet, "/metrics", "")
	require.Contains(t, w.Body.String(), `http_requests_total{route="GET /docs/",status="200"} 1`)
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
	service.Handle(s.API, huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
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

func ingress(t *testing.T, handle service.EventFunc) *service.Service {
	t.Helper()
	s, _ := newService(t)
	s.Mux.Handle("POST /{$}", service.EventIngress{MaxBytes: 100, Handle: handle})
	return s
}

func binary(extra ...string) []string {
	return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"}, extra...)
}

func TestEventStatuses(t *testing.T) {
	t.Parallel()
	var err error
	s := ingress(t, func(context.Context, service.Delivery) error { return err })
	cases := map[string]struct {
		err    error
		status int
	}{
		"acknowledged":            {nil, 204},
		"invalid":                 {fault.New(fault.Invalid, "bad", "x"), 422},
		"not found is never 404":  {fault.New(fault.NotFound, "gone", "x"), 422},
		"conflict":                {fault.New(fault.Conflict, "taken", "x"), 409},
		"limited":                 {fault.New(fault.Limited, "slow", "x"), 429},
		"unavailable":             {fault.New(fault.Unavailable, "away", "x"), 503},
		"unknown means transient": {errors.New("boom"), 500},
	}
	for name, c := range cases {
		err = c.err
		require.Equal(t, c.status, do(s, http.MethodPost, "/", "{}", binary()...).Code, name)
	}
}

func TestEventDecoding(t *testing.T) {
	t.Parallel()
	var got service.Delivery
	s := ingress(t, func(_ context.Context, d service.Delivery) error { got = d; return nil })
	require.Equal(t, 204, do(s, http.MethodPost, "/", "\x00\xff", binary("Ce-Correction", "2", "Ce-Key", "100%25")...).Code)
	require.Equal(t, []byte("\x00\xff"), got.Event.Data())
	require.Equal(t, "2", got.Event.Extensions()["correction"])
	require.Empty(t, got.Event.DataContentType(), "absent stays absent")

	require.Equal(t, 204, do(s, http.MethodPost, "/", "", binary()...).Code)
	require.Empty(t, got.Event.Data(), "a tombstone is an event without data")

	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1.10}}`
	require.Equal(t, 204, do(s, http.MethodPost, "/", structured, "Content-Type", "application/cloudevents+json; charset=utf-8").Code)
	require.Equal(t, `{"a":1.10}`, string(got.Event.Data()), "digits are untouched")

	require.Equal(t, 204, do(s, http.MethodPost, "/", "raw", "X-Topic", "prices", "X-Kafka-Partition", "3", "X-Kafka-Offset", "9", "Content-Type", "text/plain").Code)
	require.Equal(t, "dev.knative.kafka.event", got.Event.Type())
	require.Equal(t, "partition:3/offset:9", got.Event.ID())
	require.Equal(t, "raw", string(got.Event.Data()))
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	t.Parallel()
	s := ingress(t, func(context.Context, service.Delivery) error { return nil })
	for name, header := range map[string][]string{
		"nothing": nil, "no id": {"Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t"},
		"bad time": binary("Ce-Time", "yesterday"), "bad version": {"Ce-Specversion", "9", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"},
		"broken structured": {"Content-Type", "application/cloudevents+json"},
	} {
		w := do(s, http.MethodPost, "/", "{", header...)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code, name)
		require.Equal(t, "undecodable", problem(t, w).Code, name)
	}
	w := do(s, http.MethodPost, "/", strings.Repeat("x", 101), binary()...)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}

func TestPanicIsPermanentForItsEvent(t *testing.T) {
	t.Parallel()
	s := ingress(t, func(context.Context, service.Delivery) error { panic("boom") })
	w := do(s, http.MethodPost, "/", "{}", binary()...)
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.NotContains(t, w.Body.String(), "boom")
}

// A body that ends early is the sender's trouble: it will deliver again.
func TestTornBodyIsTransient(t *testing.T) {
	t.Parallel()
	s := ingress(t, func(context.Context, service.Delivery) error { return nil })
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), errReader{}))
	s.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

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

func TestServesUntilToldToStopAndFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	var logs safeBuffer
	s := service.New("test", "", service.Config{Host: "127.0.0.1", ShutdownTimeout: 5 * time.Second}, slog.New(slog.NewJSONHandler(&logs, nil)))
	entered, release := make(chan struct{}), make(chan struct{})
	s.Mux.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var addr string
	require.Eventually(t, func() bool {
		_, after, found := strings.Cut(logs.String(), `"addr":"`)
		addr, _, _ = strings.Cut(after, `"`)
		return found
	}, 5*time.Second, time.Millisecond)
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/slow")
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-entered
	cancel()
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-ended)
}

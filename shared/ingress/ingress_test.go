package ingress_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/service"
)

func do(s *service.Service, method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	s.Handler().ServeHTTP(w, r)
	return w
}

func codeOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), w.Body.String())
	var p service.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	return p.Code
}

func mounted(t *testing.T, handle ingress.Func) *service.Service {
	t.Helper()
	s := service.New("test", "A test.", service.Config{}, slog.New(slog.DiscardHandler))
	s.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: 100, Handle: handle})
	return s
}

func binary(extra ...string) []string {
	return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"}, extra...)
}

func TestEventStatuses(t *testing.T) {
	t.Parallel()
	var err error
	s := mounted(t, func(context.Context, ingress.Delivery) error { return err })
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
	var got ingress.Delivery
	s := mounted(t, func(_ context.Context, d ingress.Delivery) error { got = d; return nil })
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

	ids := map[string]bool{}
	for range 2 {
		require.Equal(t, 204, do(s, http.MethodPost, "/", "", "X-Topic", "cron-function", "X-Connector", "cron-connector").Code)
		require.Equal(t, "dev.knative.sources.ping", got.Event.Type())
		require.NoError(t, got.Event.Validate())
		ids[got.Event.ID()] = true
	}
	require.Len(t, ids, 2, "each tick is one of its own")
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { return nil })
	for name, header := range map[string][]string{
		"nothing": nil, "no id": {"Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t"},
		"bad time": binary("Ce-Time", "yesterday"), "bad version": {"Ce-Specversion", "9", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"},
		"broken structured": {"Content-Type", "application/cloudevents+json"},
	} {
		w := do(s, http.MethodPost, "/", "{", header...)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code, name)
		require.Equal(t, "undecodable", codeOf(t, w), name)
	}
	w := do(s, http.MethodPost, "/", strings.Repeat("x", 101), binary()...)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}

func TestPanicIsPermanentForItsEvent(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { panic("boom") })
	w := do(s, http.MethodPost, "/", "{}", binary()...)
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.NotContains(t, w.Body.String(), "boom")
}

// A body that ends early is the sender's trouble: it will deliver again.
func TestTornBodyIsTransient(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { return nil })
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), errReader{}))
	s.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

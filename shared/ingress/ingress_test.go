package ingress_test

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"marketdata/shared/problem"
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
	var p problem.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	return p.Code
}

func mounted(t *testing.T, handle ingress.Func) *service.Service {
	t.Helper()
	s := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	s.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: 300, Handle: handle})
	return s
}

func binary(extra ...string) []string {
	return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"}, extra...)
}

// delivered posts an event and returns what its handler gets.
func delivered(t *testing.T, body string, header ...string) (got ingress.Delivery) {
	t.Helper()
	s := mounted(t, func(_ context.Context, d ingress.Delivery) error { got = d; return nil })
	require.Equal(t, 204, do(s, http.MethodPost, "/", body, header...).Code)
	return got
}

func TestEventStatuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err    error
		status int
	}{
		"acknowledged":            {nil, 204},
		"invalid":                 {fault.New(fault.Invalid, "bad", "x"), 422},
		"not found is not 404":    {fault.New(fault.NotFound, "gone", "x"), 422},
		"conflict":                {fault.New(fault.Conflict, "taken", "x"), 409},
		"limited":                 {fault.New(fault.Limited, "slow", "x"), 429},
		"unavailable":             {fault.New(fault.Unavailable, "away", "x"), 503},
		"unknown means transient": {errors.New("boom"), 500},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mounted(t, func(context.Context, ingress.Delivery) error { return c.err })
			require.Equal(t, c.status, do(s, http.MethodPost, "/", "{}", binary()...).Code)
		})
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
	require.Len(t, ids, 2, "each tick has its own id")
}

func TestInvalidEventsAreRefused(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { return nil })
	for name, header := range map[string][]string{
		"nothing": nil, "no id": {"Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t"},
		"bad version":       {"Ce-Specversion", "9", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"},
		"broken structured": {"Content-Type", "application/cloudevents+json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := do(s, http.MethodPost, "/", "{", header...)
			require.Equal(t, http.StatusUnprocessableEntity, w.Code)
			require.Equal(t, "undecodable", codeOf(t, w))
		})
	}
	w := do(s, http.MethodPost, "/", strings.Repeat("x", 301), binary()...)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}

// Metadata that do not matter never fail an event.
func TestUnusableMetadataIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][]string{
		"time":           binary("Ce-Time", "yesterday"),
		"year":           binary("Ce-Time", "+58877-08-06T12:33:20Z"),
		"source":         binary("Ce-Source", "%zz :"),
		"schema":         binary("Ce-Dataschema", "::"),
		"name":           binary("Ce-a_b.c", "x", "Ce-!", "x", "Ce-Data", "x", "Ce-Datacontenttype", "x"),
		"content type":   binary("Content-Type", "application/cloudevents+json"),
		"batch":          binary("Content-Type", "application/cloudevents-batch+json"),
		"another format": binary("Content-Type", "application/cloudevents+avro"),
		"trace":          binary("Traceparent", "rubbish"),
		"long":           binary("Ce-Id", strings.Repeat("x", 6000)),
		"old":            binary("Ce-Specversion", "0.3"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := delivered(t, `{"a":1.10}`, header...)
			require.Equal(t, "t", got.Event.Type())
			require.Equal(t, `{"a":1.10}`, string(got.Event.Data()))
			require.NotContains(t, got.Event.Extensions(), "data")
		})
	}
}

func TestStructuredMode(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","id":"1","source":"/s","type":"t",`
	for name, c := range map[string]struct{ body, data, x string }{
		"numbers as they stand": {head + `"x":1e1,"data":{"a":1.10, "b":12345678901234567890.5}}`, `{"a":1.10, "b":12345678901234567890.5}`, "1e1"},
		"the last counts":       {head + `"x":1,"x":2,"data":1,"data":2}`, "2", "2"},
		"bytes":                 {head + `"x":"y","data_base64":"AP8="}`, "\x00\xff", "y"},
		"text":                  {head + `"datacontenttype":"text/plain","data":"ab"}`, "ab", ""},
		"JSON text":             {head + `"data":"ab"}`, `"ab"`, ""},
		"null":                  {head + `"data":null,"x":null,"time":null}`, "", ""},
		"odd members":           {head + `"time":"yesterday","X":"big","subject":5,"datacontenttype":[],"data":1}`, "1", ""},
		"invalid type":          {head + `"x":{"y":[1]},"data":1}`, "1", `{"y":[1]}`}, // the reader of x refuses it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := delivered(t, c.body, "Content-Type", "Application/CloudEvents+JSON; charset=utf-8")
			require.Equal(t, c.data, string(got.Event.Data()))
			require.Equal(t, c.x, got.Extension("x"))
		})
	}
	s := mounted(t, func(context.Context, ingress.Delivery) error { return nil })
	for name, body := range map[string]string{
		"both":         head + `"data":1,"data_base64":"AP8="}`,
		"not base64":   head + `"data_base64":"?"}`,
		"null":         "null",
		"array":        "[]",
		"id is number": `{"specversion":"1.0","id":{},"source":"/s","type":"t"}`,
		"nothing":      "",
		"deep":         head + `"data":` + strings.Repeat("[", 20_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := do(s, http.MethodPost, "/", body, "Content-Type", "application/cloudevents+json")
			require.Contains(t, []int{413, 422}, w.Code)
		})
	}
}

// A record of OpenFaaS' connector is the event that a KafkaSource would make of it.
func TestConnectorRecordsThatAreCloudEvents(t *testing.T) {
	t.Parallel()
	var got ingress.Delivery
	s := mounted(t, func(_ context.Context, d ingress.Delivery) error { got = d; return nil })
	record := func(extra ...string) []string {
		return append([]string{"X-Topic", "prices", "X-Kafka-Partition", "3", "X-Kafka-Offset", "9", "Content-Type", "text/plain"}, extra...)
	}
	require.Equal(t, 204, do(s, http.MethodPost, "/", "{}", record("X-Kafka-Ce_specversion", "1.0", "X-Kafka-Ce_id", "1", "X-Kafka-Ce_source", "/s",
		"X-Kafka-Ce_type", "t", "X-Kafka-Ce_correction", "2")...).Code)
	require.Equal(t, "t", got.Event.Type())
	require.Equal(t, "2", got.Extension("correction"))
	require.Equal(t, 204, do(s, http.MethodPost, "/", `{"specversion":"1.0","id":"1","source":"/s","type":"u","data":5}`,
		record("X-Kafka-Content-Type", "application/cloudevents+json")...).Code)
	require.Equal(t, "u", got.Event.Type())
	require.Equal(t, "5", string(got.Event.Data()))
	for _, half := range [][]string{record("X-Kafka-Ce_specversion", "1.0"), record("X-Kafka-Content-Type", "application/cloudevents+json"), record()} {
		require.Equal(t, 204, do(s, http.MethodPost, "/", "{}", half...).Code)
		require.Equal(t, "dev.knative.kafka.event", got.Event.Type())
	}
}

func TestARecordIsNeverATick(t *testing.T) {
	t.Parallel()
	const structured = `{"specversion":"1.0","id":"1","source":"/s","type":"dev.knative.sources.ping"`
	for name, c := range map[string]struct {
		body   string
		header []string
		tick   bool
	}{
		"tick":              {"{}", binary("Ce-Type", "dev.knative.sources.ping"), true},
		"structured":        {structured + "}", []string{"Content-Type", "application/cloudevents+json"}, true},
		"cron":              {"", []string{"X-Topic", "cron-function"}, true},
		"record":            {"{}", binary("Ce-Type", "dev.knative.sources.ping", "Ce-Knativekafkaoffset", "5"), false},
		"structured record": {structured + `,"knativekafkaoffset":5}`, []string{"Content-Type", "application/cloudevents+json"}, false},
		"connector":         {"{}", []string{"X-Topic", "t", "X-Kafka-Ce_specversion", "1.0", "X-Kafka-Ce_id", "1", "X-Kafka-Ce_source", "/s", "X-Kafka-Ce_type", "dev.knative.sources.ping"}, false},
		"topic named cron":  {"{}", []string{"X-Topic", "cron-function", "X-Kafka-Partition", "0", "X-Kafka-Offset", "5"}, false},
		"other":             {"{}", binary(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.tick, delivered(t, c.body, c.header...).IsTick())
		})
	}
}

// Refuse gets the beginning, the length and the digest of a body of any size.
func TestBodiesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	var got ingress.Delivery
	h := ingress.Handler{
		MaxBytes: 100, Handle: func(context.Context, ingress.Delivery) error { return errors.New("not called") },
		Refuse: func(_ context.Context, d ingress.Delivery, reason error) error { got = d; return reason },
	}
	const kept = 2 << 20
	for _, size := range []int{101, kept - 1, kept, kept + 1, 3 * kept} {
		body := strings.Repeat("x", size-1) + "y"
		r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(strings.NewReader(body))) // chunked: of unknown length
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
		require.EqualValues(t, size, got.Size)
		require.Equal(t, size > kept, got.Cut())
		require.Equal(t, body[:min(size, kept)], string(got.Body))
		if sum := sha256.Sum256([]byte(body)); got.Cut() {
			require.Equal(t, sum[:], got.SHA256)
		}
	}
}

// Ids are untrusted. Only event routes log them, and long ones are cut.
func TestEventIDsAreBoundedInLogs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := service.New(service.Config{}, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: 1 << 20, Handle: func(context.Context, ingress.Delivery) error { return nil }})
	s.Mux.HandleFunc("GET /public", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	long := strings.Repeat("é", 450_000)
	require.Equal(t, 204, do(s, http.MethodPost, "/", "{}", binary("Ce-Id", "short")...).Code)
	require.Contains(t, log.String(), `"event_id":"short"`)
	log.Reset()
	require.Equal(t, 204, do(s, http.MethodPost, "/", "{}", binary("Ce-Id", long)...).Code)
	require.Equal(t, 204, do(s, http.MethodPost, "/", `{"specversion":"1.0","id":"`+long+`","source":"/s","type":"t"}`, "Content-Type", "application/cloudevents+json").Code)
	require.Contains(t, log.String(), `"event_id":"é`)
	require.Less(t, log.Len(), 2000)
	log.Reset()
	require.Equal(t, 204, do(s, http.MethodGet, "/public", "", binary("Ce-Id", long)...).Code)
	require.NotContains(t, log.String(), "event_id")
}

// A browser lets another site's page send an event, without a CloudEvent's headers. No platform sends Origin.
func TestEventsOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	handled := 0
	count := func(context.Context, ingress.Delivery) error { handled++; return nil }
	s := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	s.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: 300, Handle: count, Refuse: func(ctx context.Context, d ingress.Delivery, _ error) error { return count(ctx, d) }})
	for name, header := range map[string][]string{
		"simple POST":   {"Content-Type", "text/plain", "Origin", "https://evil.example.com"},
		"sandboxed":     {"Content-Type", "text/plain", "Origin", "null"},
		"fetch":         {"Sec-Fetch-Site", "cross-site"},
		"a whole event": binary("Origin", "https://evil.example.com"),
	} {
		w := do(s, http.MethodPost, "/", "{}", header...)
		require.Equal(t, http.StatusForbidden, w.Code, name)
		require.Equal(t, "foreign_origin", codeOf(t, w), name)
	}
	require.Zero(t, handled, "neither handled nor dead-lettered")
	require.Equal(t, 204, do(s, http.MethodPost, "/", "{}", binary("Origin", "http://example.com")...).Code, "the function's own page")
	require.Equal(t, 1, handled)
}

func TestPanicIsPermanentForItsEvent(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { panic("boom") })
	w := do(s, http.MethodPost, "/", "{}", binary()...)
	require.Equal(t, http.StatusUnprocessableEntity, w.Code)
	require.NotContains(t, w.Body.String(), "boom")
}

// The sender of a body that ends early will redeliver.
func TestIncompleteBodyIsTransient(t *testing.T) {
	t.Parallel()
	s := mounted(t, func(context.Context, ingress.Delivery) error { return nil })
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), errReader{}))
	s.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

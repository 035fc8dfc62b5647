package traces_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"marketdata/local/traces"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func id(text string, n int) []byte { return []byte(text + strings.Repeat("-", n-len(text))) }

func traceID(text string) string { return hex.EncodeToString(id(text, 16)) }

// spanOf makes a span that begins after some milliseconds and takes ten.
func spanOf(trace, name, parent string, after int, change ...func(*otlp.Span)) *otlp.Span {
	at := uint64(began.Add(time.Duration(after) * time.Millisecond).UnixNano())
	s := &otlp.Span{TraceId: id(trace, 16), SpanId: id(name, 8), Name: name, StartTimeUnixNano: at, EndTimeUnixNano: at + 10_000_000}
	if parent != "" {
		s.ParentSpanId = id(parent, 8)
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

type server struct{ *httptest.Server }

func start(t *testing.T) server {
	t.Helper()
	store := &traces.Store{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", store.Receive)
	mux.HandleFunc("GET /traces", store.List)
	mux.HandleFunc("GET /traces/{id}", store.Show)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return server{s}
}

func (s server) post(t *testing.T, body []byte) int {
	t.Helper()
	resp, err := http.Post(s.URL+"/v1/traces", "application/x-protobuf", bytes.NewReader(body))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func (s server) export(t *testing.T, service string, spans ...*otlp.Span) {
	t.Helper()
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: []*otlp.ResourceSpans{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{text("service.name", service)}}, ScopeSpans: []*otlp.ScopeSpans{{Spans: spans}},
	}}})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.post(t, body))
}

func (s server) get(t *testing.T, path string) (int, []string) {
	t.Helper()
	resp, err := http.Get(s.URL + path)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(body)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return resp.StatusCode, lines
}

func TestTraceIsATree(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.export(t, "compute-ma", spanOf("one", "commit", "receive", 30, func(s *otlp.Span) { s.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR} }))
	s.export(t, "get-latest",
		spanOf("one", "request", "", 0, func(s *otlp.Span) {
			s.Attributes = []*common.KeyValue{{Key: "http.response.status_code", Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: 200}}}, text("url.query", "secret")}
		}),
		spanOf("one", "send", "request", 20), spanOf("one", "fetch", "request", 10, func(s *otlp.Span) { s.Attributes = []*common.KeyValue{text("server.address", "a\x1b[31m")} }))
	s.export(t, "compute-ma", spanOf("one", "receive", "send", 25),
		spanOf("two", "batch", "", 40, func(s *otlp.Span) { s.Links = []*otlp.Span_Link{{TraceId: id("one", 16), SpanId: id("receive", 8)}} }))

	status, lines := s.get(t, "/traces/"+traceID("one"))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []string{
		"AFTER TOOK SPAN",
		"0.0 ms 10.0 ms get-latest request (200)",
		"10.0 ms 10.0 ms get-latest fetch (a?[31m)",
		"20.0 ms 10.0 ms get-latest send",
		"25.0 ms 10.0 ms compute-ma receive",
		"30.0 ms 10.0 ms compute-ma commit FAILED",
		"40.0 ms 10.0 ms compute-ma batch (in trace " + traceID("two") + ")",
	}, lines)

	_, lines = s.get(t, "/traces")
	require.Equal(t, []string{
		"TRACE BEGAN (UTC) TOOK SPANS BEGINS WITH",
		traceID("two") + " 03:04:05.040 10.0 ms 1 compute-ma batch",
		traceID("one") + " 03:04:05.000 40.0 ms 5 get-latest request (200)",
	}, lines)
	_, lines = s.get(t, "/traces?q=FETCH")
	require.Len(t, lines, 2)
	require.True(t, strings.HasPrefix(lines[1], traceID("one")))
}

func TestUnknownTrace(t *testing.T) {
	t.Parallel()
	s := start(t)
	status, lines := s.get(t, "/traces/"+traceID("none"))
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, lines[0], "route_not_found")
	_, lines = s.get(t, "/traces")
	require.Len(t, lines, 1)
	require.Equal(t, http.StatusBadRequest, s.post(t, []byte("no protobuf")))
	require.Equal(t, http.StatusBadRequest, s.post(t, make([]byte, 9<<20)))
}

// A span without its parent is shown, one that came twice is shown once, and one that is its own ancestor does no harm.
func TestOddSpans(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 2 {
		s.export(t, "x", spanOf("twice", "a", "", 0), spanOf("twice", "b", "a", 1), spanOf("twice", "c", "b", 2))
	}
	_, lines := s.get(t, "/traces/"+traceID("twice"))
	require.Len(t, lines, 4)
	s.export(t, "x", spanOf("one", "a", "elsewhere"[:8], 0), spanOf("one", "b", "b", 1), spanOf("one", "c", "d", 2), spanOf("one", "d", "c", 3),
		spanOf("one", "b", "", 4))
	status, lines := s.get(t, "/traces/"+traceID("one"))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "0.0 ms 10.0 ms x a", lines[1])
	require.Less(t, len(lines), 200)
}

// The newest traces are kept, and the first spans of each.
func TestOldSpansAreForgotten(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.export(t, "x", spanOf("old", "a", "", 0))
	for n := range 101 {
		many := make([]*otlp.Span, 1010)
		for i := range many {
			many[i] = spanOf(fmt.Sprint("new ", n), fmt.Sprint(i), "", n)
		}
		s.export(t, "x", many...)
	}
	status, _ := s.get(t, "/traces/"+traceID("old"))
	require.Equal(t, http.StatusNotFound, status)
	_, lines := s.get(t, "/traces")
	require.Contains(t, lines[1], traceID("new 100"))
	_, lines = s.get(t, "/traces/"+traceID("new 100"))
	require.Len(t, lines, 1+1000+1)
	require.Equal(t, "… and 10 more spans", lines[1001])
}

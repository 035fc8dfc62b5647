package traces

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// FuzzReceive sends a request of any bytes twice, as an exporter does that got no answer. What protobuf can read is kept once; a trace is
// shown with all spans that descend from one whose parent is unknown; and nothing of it controls the terminal, or adds a line.
func FuzzReceive(f *testing.F) {
	attribute := func(key, value string) *common.KeyValue {
		return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
	}
	trace, other := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	at := func(s *otlp.Span, trace []byte, id, parent string) *otlp.Span {
		s.TraceId, s.SpanId, s.ParentSpanId = trace, []byte(id), []byte(parent)
		return s
	}
	for _, spans := range [][]*otlp.Span{
		{at(&otlp.Span{Name: "a\nb\x1b[2J", EndTimeUnixNano: 1e9}, trace, "1", ""), at(&otlp.Span{StartTimeUnixNano: 1<<64 - 1}, trace, "2", "1")},
		{at(&otlp.Span{Name: "a"}, trace, "1", "2"), at(&otlp.Span{Name: "b"}, trace, "2", "1"), at(&otlp.Span{Name: "c"}, trace, "3", "4")},
		{at(&otlp.Span{Name: "same"}, trace, "1", ""), at(&otlp.Span{Name: "same"}, trace, "1", ""), at(&otlp.Span{Name: "none"}, nil, "", "")},
		{
			at(&otlp.Span{Name: "a", Status: &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR}}, trace, "1", ""),
			at(&otlp.Span{Links: []*otlp.Span_Link{{TraceId: trace, SpanId: []byte("1")}}, Attributes: []*common.KeyValue{attribute("error.type", "\u2028")}}, other, "2", ""),
		},
		{ // two traces with the same IDs of spans
			at(&otlp.Span{Name: "a"}, trace, "1", ""), at(&otlp.Span{Name: "b"}, trace, "2", "1"), at(&otlp.Span{Name: "c"}, trace, "3", "2"),
			at(&otlp.Span{Links: []*otlp.Span_Link{{SpanId: []byte("3")}}}, other, "2", "1"),
		},
	} {
		body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: []*otlp.ResourceSpans{{
			Resource: &resource.Resource{Attributes: []*common.KeyValue{attribute("service.name", "poll\t")}}, ScopeSpans: []*otlp.ScopeSpans{{Spans: spans}},
		}}})
		require.NoError(f, err)
		f.Add(body)
	}
	f.Add([]byte("\x0a\x02\x12"))
	f.Fuzz(func(t *testing.T, body []byte) {
		store := &Store{}
		var data otlp.TracesData
		valid := proto.Unmarshal(body, &data) == nil
		for range 2 {
			w := httptest.NewRecorder()
			store.Receive(w, httptest.NewRequest(http.MethodPost, "/v1/traces", bytes.NewReader(body)))
			require.Equal(t, valid, w.Code == http.StatusOK)
		}
		var sent []*otlp.Span // the first of each ID
		known := map[[2]string]bool{}
		for _, from := range data.GetResourceSpans() {
			for _, scope := range from.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					if id := [2]string{string(s.GetTraceId()), string(s.GetSpanId())}; valid && !known[id] {
						known[id], sent = true, append(sent, s)
					}
				}
			}
		}
		spans, listed := store.snapshot(), 0
		for _, trace := range summaries(spans, "") {
			listed += trace.spans
			requirePrintable(t, trace.first)
			lines := tree(spans, trace.id)
			require.Len(t, lines, shown(sent, trace.id))
			for _, l := range lines {
				requirePrintable(t, l.text)
			}
		}
		require.Equal(t, []int{len(sent), len(sent), len(sent)}, []int{len(spans), listed, store.spans})
	})
}

// shown returns how many lines the tree of a trace has: one for each of its spans that descends from one whose parent is unknown, and one
// for each link from another trace to such a span.
func shown(spans []*otlp.Span, trace string) (lines int) {
	of := func(s *otlp.Span) bool { return hex.EncodeToString(s.GetTraceId()) == trace }
	parents := map[string]string{}
	for _, s := range spans {
		if of(s) {
			parents[string(s.GetSpanId())] = string(s.GetParentSpanId())
		}
	}
	descends := func(id []byte, steps int) bool {
		at := string(id)
		for range steps {
			parent, known := parents[at]
			if !known {
				return true
			}
			at = parent
		}
		return false
	}
	for _, s := range spans {
		if of(s) && descends(s.GetSpanId(), maxDepth+1) {
			lines++
		}
		for _, to := range s.GetLinks() {
			if _, known := parents[string(to.GetSpanId())]; known && !of(s) && descends(to.GetSpanId(), maxDepth) {
				lines++
			}
		}
	}
	return lines
}

func requirePrintable(t *testing.T, text string) {
	t.Helper()
	require.False(t, strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
}

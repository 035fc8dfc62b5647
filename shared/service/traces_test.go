package service

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/testenv/collector"
	"marketdata/shared/trace"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

func TestRequestsHaveSpans(t *testing.T) {
	t.Parallel()
	endpoint := collector.Start(t)
	s := New(Config{ShutdownTimeout: 10 * time.Second, Tracing: trace.Config{Endpoint: endpoint.URL}}, slog.New(slog.DiscardHandler))
	flush := s.Trace("things")
	s.Mux.HandleFunc("GET /things/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, child := trace.Start(r.Context(), trace.Internal, "work", "")
		child.End(nil)
		w.WriteHeader(http.StatusOK)
	})
	s.Mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		request.NoteEvent(r.Context(), "e1")
		problem.Write(w, r, fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x"))
	})
	s.Mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	for _, r := range []struct{ method, target string }{
		{"GET", "/things/7?apikey=secret"}, {"POST", "/events"}, {"GET", "/panic"}, {"FOO", "/nothing"}, {"GET", "/healthz"},
	} {
		call := httptest.NewRequest(r.method, r.target, nil)
		call.Header.Set("Traceparent", traceparent)
		call.Header.Set("Authorization", "Bearer secret")
		s.Handler().ServeHTTP(httptest.NewRecorder(), call)
	}
	flush()

	spans := map[string]collector.Span{}
	for _, span := range endpoint.Spans() {
		require.Equal(t, traceID, span.TraceID)
		require.Equal(t, "things", span.Service)
		for _, value := range span.Attributes {
			require.NotContains(t, value, "secret")
		}
		spans[span.Name] = span
	}
	require.Len(t, spans, 5, "probes have none")
	require.Equal(t, spans["GET /things/{id}"].ID, spans["work"].Parent)
	for name, want := range map[string]struct {
		failed     bool
		attributes map[string]string
	}{
		"GET /things/{id}": {false, map[string]string{"http.route": "/things/{id}", "http.request.method": "GET", "url.path": "/things/7", "http.response.status_code": "200"}},
		"POST /events":     {true, map[string]string{"error.type": "storage_unavailable", "cloudevents.event_id": "e1", "http.response.status_code": "503"}},
		"GET /panic":       {true, map[string]string{"error.type": "internal"}},
		"_OTHER":           {false, map[string]string{"http.request.method": "_OTHER", "http.response.status_code": "404"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, otlp.Span_SPAN_KIND_SERVER, spans[name].Kind)
			require.Equal(t, "00f067aa0ba902b7", spans[name].Parent)
			require.Equal(t, want.failed, spans[name].Failed)
			require.Subset(t, spans[name].Attributes, want.attributes)
		})
	}
}

func TestLogLinesHaveTheTrace(t *testing.T) {
	t.Parallel()
	with := func(traceparent string) context.Context {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Traceparent", traceparent)
		r, _ = request.Begin(r)
		return r.Context()
	}
	recorded, _ := collector.Record(t.Context())
	for name, c := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"no request":             {t.Context(), `^level=INFO msg=m function=f\n$`},
		"without a trace":        {with(""), `^level=INFO msg=m function=f\n$`},
		"an invalid one":         {with("rubbish"), `^level=INFO msg=m function=f\n$`},
		"tracing is off":         {with(traceparent), `^level=INFO msg=m function=f trace_id=` + traceID + `\n$`},
		"a span that is sampled": {recorded, `^level=INFO msg=m function=f trace_id=[0-9a-f]{32} span_id=[0-9a-f]{16}\n$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			withoutTime := func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}
			log := slog.New(traced{slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: withoutTime})}).With("function", "f")
			log.InfoContext(c.ctx, "m")
			require.Regexp(t, c.want, out.String())
		})
	}
}

package service

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/request"
	"marketdata/shared/trace"
)

// flushTime is for the export of the last spans at the end: an endpoint that hangs must not hold up the stop for longer.
const flushTime = 3 * time.Second

// Trace records a span for each request, if the environment names an OTLP endpoint. Call it before [Service.Run], and defer flush before all
// that may have spans: it exports the last ones.
func (s *Service) Trace(function string) (flush func()) {
	tracing := trace.Open(function, s.config.Tracing, s.Log)
	s.observe.tracing = tracing
	return func() { tracing.Close(min(s.Left(), flushTime)) }
}

// trace begins the span of a request, and returns the request with the span in its context. Probes have none.
func (o *observer) trace(r *http.Request, state *request.State) (*http.Request, trace.Span) {
	if o.tracing == nil || quiet[r.Method+" "+r.URL.Path] {
		return r, trace.Span{}
	}
	ctx, span := o.tracing.Start(r.Context(), trace.Server, state.Traceparent, methodOf(r), "")
	return r.WithContext(ctx), span
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	http.MethodConnect, http.MethodTrace,
}

// methodOf returns the method, and for an unknown one what OpenTelemetry's conventions put in its place: a client may invent any number.
func methodOf(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "_OTHER"
}

// endSpan ends the span of a request. It is named after the route: a path may hold an ID. The query is left out.
func endSpan(span trace.Span, r *http.Request, state *request.State, status int) {
	if !span.Recorded() {
		return
	}
	method := methodOf(r)
	if route := r.Pattern[strings.IndexByte(r.Pattern, ' ')+1:]; route != "" {
		span.Name(method + " " + route)
		span.Text("http.route", route)
	}
	span.Text("http.request.method", method)
	span.Text("url.scheme", "http") // TLS ends at the platform's proxy
	span.Text("url.path", request.Cut(r.URL.Path, 256))
	span.Text("request_id", state.ID)
	span.Int("http.response.status_code", status)
	if state.EventID != "" {
		span.Text("cloudevents.event_id", state.EventID)
	}
	if status >= http.StatusInternalServerError {
		code := strconv.Itoa(status)
		if state.Err != nil {
			code = fault.CodeOf(state.Err)
		}
		span.Fail(code)
	}
	span.End(nil)
}

// traced adds the trace of its context to each log line.
type traced struct{ slog.Handler }

// Handle writes a line.
func (h traced) Handle(ctx context.Context, line slog.Record) error {
	traceID, spanID := request.TraceIDs(ctx)
	if traceID != "" {
		line.AddAttrs(slog.String("trace_id", traceID))
	}
	if spanID != "" {
		line.AddAttrs(slog.String("span_id", spanID))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs returns a handler with attributes.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup returns a handler with a group.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }

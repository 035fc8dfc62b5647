// Package trace records what a request or an event passes through, as spans of OpenTelemetry, and exports them over OTLP/HTTP.
//
// [Open] turns tracing on if the environment names an endpoint. A span begins where a request or an event comes in ([Tracing.Start]); all
// that it causes begins spans of its own with [Start], which finds the parent in the context. So no package below has a tracer, and
// without a parent that is recorded, because tracing is off or the trace is not sampled, [Start] returns the zero [Span] and allocates
// nothing. Attributes follow OpenTelemetry's semantic conventions. They never hold a secret: of a URL, only host and path.
package trace

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otel "go.opentelemetry.io/otel/trace"

	"marketdata/shared/fault"
)

// Kind says how a span relates to those of other processes.
type Kind = otel.SpanKind

// The kinds of spans.
const (
	Internal = otel.SpanKindInternal
	Server   = otel.SpanKindServer   // handles a request
	Client   = otel.SpanKindClient   // waits for the answer to a request
	Producer = otel.SpanKindProducer // sends a message
	Consumer = otel.SpanKindConsumer // handles a message
)

// scope names what records our spans.
const scope = "marketdata"

// Span is one step of a trace. The methods of the zero Span do nothing.
type Span struct{ span otel.Span } // nil, or recording

// Start begins a span as a child of the one in ctx. Its name is the operation, and the target if there is one: "send price-events".
// End it.
func Start(ctx context.Context, kind Kind, operation, target string) (context.Context, Span) {
	parent := otel.SpanFromContext(ctx)
	if !parent.SpanContext().IsSampled() { // one that has ended is a parent, too: of work in the background
		return ctx, Span{}
	}
	return begin(ctx, parent, nameOf(operation, target), otel.WithSpanKind(kind))
}

// Continue begins a span in the trace of a message, with a link to the span of ctx, on whose behalf the message is sent again. If the
// message has no trace, Continue is [Start].
func Continue(ctx context.Context, traceparent string, kind Kind, operation, target string) (context.Context, Span) {
	here := otel.SpanFromContext(ctx)
	origin, ok := parse(traceparent)
	if !ok || !here.SpanContext().IsValid() {
		return Start(ctx, kind, operation, target)
	}
	return begin(otel.ContextWithRemoteSpanContext(ctx, origin), here, nameOf(operation, target),
		otel.WithSpanKind(kind), otel.WithLinks(otel.Link{SpanContext: here.SpanContext()}))
}

// StartBatch begins a span of work that several callers share, with a link to the span of each. Its parent is the first of them, so that
// the work for a lone caller is a part of that caller's trace.
func StartBatch[T any](ctx context.Context, operation string, items []T, caller func(*T) Span) (context.Context, Span) {
	var first otel.Span
	var links []otel.Link
	for i := range items {
		s := caller(&items[i]).span
		if s == nil {
			continue
		}
		if first == nil {
			first = s
		}
		links = append(links, otel.Link{SpanContext: s.SpanContext()})
	}
	if first == nil {
		return ctx, Span{}
	}
	ctx, span := begin(otel.ContextWithSpan(ctx, first), first, operation, otel.WithLinks(links...))
	span.Int("marketdata.items", len(items))
	return ctx, span
}

func nameOf(operation, target string) string {
	if target == "" {
		return operation
	}
	return operation + " " + target
}

// begin begins a span by the tracer of another one.
func begin(ctx context.Context, by otel.Span, name string, options ...otel.SpanStartOption) (context.Context, Span) {
	ctx, span := by.TracerProvider().Tracer(scope).Start(ctx, name, options...)
	return ctx, recorded(span)
}

func recorded(span otel.Span) Span {
	if !span.IsRecording() {
		return Span{}
	}
	return Span{span}
}

// Current returns the span of ctx.
func Current(ctx context.Context) Span { return recorded(otel.SpanFromContext(ctx)) }

// Header returns the traceparent by which others continue the trace of ctx, whether it is sampled or not; empty if tracing is off.
func Header(ctx context.Context) string {
	if c := otel.SpanContextFromContext(ctx); c.IsValid() {
		return format(c)
	}
	return ""
}

// IDs returns the IDs of the trace and of the span in ctx: the first is empty if tracing is off, the second if the trace is not sampled.
func IDs(ctx context.Context) (traceID, spanID string) {
	c := otel.SpanContextFromContext(ctx)
	if !c.IsValid() {
		return "", ""
	}
	if c.IsSampled() {
		spanID = c.SpanID().String()
	}
	return c.TraceID().String(), spanID
}

// Recorded reports whether the span is recorded. It saves the work for attributes that nobody sees.
func (s Span) Recorded() bool { return s.span != nil }

// Name replaces the name.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Text sets an attribute.
func (s Span) Text(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Int sets an attribute.
func (s Span) Int(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Fail marks the span as failed. code is a stable word: a cause may hold what a trace must not.
func (s Span) Fail(code string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String("error.type", code))
		s.span.SetStatus(codes.Error, code)
	}
}

// End ends the span; err is the error of its work.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.Fail(fault.CodeOf(err))
	}
	s.span.End()
}

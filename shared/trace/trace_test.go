package trace

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"marketdata/shared/fault"
)

// recording returns a Tracing that keeps its spans.
func recording(t *testing.T, options ...sdktrace.TracerProviderOption) (*Tracing, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	return &Tracing{sdktrace.NewTracerProvider(append(options, sdktrace.WithSyncer(spans))...)}, spans
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
)

func TestSpansAreChildrenOfTheContextsSpan(t *testing.T) {
	t.Parallel()
	tracing, spans := recording(t)
	ctx, root := tracing.Start(t.Context(), Server, good, "GET", "")
	inner, child := Start(ctx, Producer, "send", "prices")
	child.Text("a", "b")
	header := Header(inner)
	id, span := IDs(inner)
	child.End(fault.New(fault.Unavailable, "broker_unavailable", "secret detail"))
	root.Name("GET /x")
	root.End(nil)
	_, later := Start(ctx, Internal, "publish", "")
	later.End(nil)

	got := spans.GetSpans()
	require.Len(t, got, 3)
	require.Equal(t, got[1].SpanContext.SpanID(), got[2].Parent.SpanID(), "work may outlive its request")
	require.Equal(t, "send prices", got[0].Name)
	require.Equal(t, Producer, got[0].SpanKind)
	require.Equal(t, got[1].SpanContext.SpanID(), got[0].Parent.SpanID())
	require.Equal(t, "broker_unavailable", got[0].Status.Description, "the code, and nothing else of an error")
	require.Len(t, got[0].Attributes, 2)
	require.Equal(t, "GET /x", got[1].Name)
	require.Equal(t, spanID, got[1].Parent.SpanID().String())
	require.Equal(t, traceID, id)
	require.Equal(t, got[0].SpanContext.SpanID().String(), span)
	require.Equal(t, "00-"+traceID+"-"+span+"-01", header)
}

// A trace that is not sampled goes on, so that others know that it is not.
func TestATraceThatIsNotSampledIsCarriedOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sampler     sdktrace.Sampler
		traceparent string
	}{
		"by the caller": {sdktrace.ParentBased(sdktrace.AlwaysSample()), good[:53] + "00"},
		"by us":         {sdktrace.NeverSample(), good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tracing, spans := recording(t, sdktrace.WithSampler(c.sampler))
			ctx, root := tracing.Start(t.Context(), Server, c.traceparent, "GET", "")
			require.False(t, root.Recorded())
			ctx, child := Start(ctx, Internal, "x", "")
			require.False(t, child.Recorded())
			require.Regexp(t, "^00-"+traceID+"-[0-9a-f]{16}-00$", Header(ctx))
			id, span := IDs(ctx)
			require.Equal(t, traceID, id)
			require.Empty(t, span)
			child.End(nil)
			root.End(nil)
			require.Empty(t, spans.GetSpans())
		})
	}
}

func TestAnInvalidTraceparentBeginsANewTrace(t *testing.T) {
	t.Parallel()
	tracing, spans := recording(t)
	_, root := tracing.Start(t.Context(), Server, "rubbish", "GET", "")
	root.End(nil)
	require.Len(t, spans.GetSpans(), 1)
	require.False(t, spans.GetSpans()[0].Parent.IsValid())
}

// What is sent again stays in its own trace.
func TestContinue(t *testing.T) {
	t.Parallel()
	tracing, spans := recording(t)
	ctx, operator := tracing.Start(t.Context(), Server, "", "POST", "")
	_, again := Continue(ctx, good, Internal, "replay", "")
	again.End(nil)
	_, without := Continue(ctx, "", Internal, "replay", "")
	without.End(nil)
	operator.End(nil)

	got := spans.GetSpans()
	require.Len(t, got, 3)
	require.Equal(t, traceID, got[0].SpanContext.TraceID().String())
	require.Equal(t, spanID, got[0].Parent.SpanID().String())
	require.Len(t, got[0].Links, 1)
	require.True(t, got[0].Links[0].SpanContext.Equal(got[2].SpanContext))
	require.Equal(t, got[2].SpanContext.SpanID(), got[1].Parent.SpanID())

	_, off := Continue(t.Context(), good, Internal, "replay", "")
	require.False(t, off.Recorded())
}

func TestABatchLinksToEachCaller(t *testing.T) {
	t.Parallel()
	tracing, spans := recording(t, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())), sdktrace.WithRawSpanLimits(limits()))
	type item struct{ span Span }
	var items []item
	for i := range mostLinks {
		header := ""
		if i == 0 {
			header = good[:53] + "00" // not recorded
		}
		_, span := tracing.Start(t.Context(), Server, header, "POST", "")
		items = append(items, item{span})
	}
	spanOf := func(i *item) Span { return i.span }
	ctx, batch := StartBatch(context.Background(), "commit", items, spanOf)
	_, statement := Start(ctx, Client, "insert", "")
	statement.End(nil)
	batch.End(nil)
	got := spans.GetSpans()
	require.Len(t, got, 2)
	require.Len(t, got[1].Links, mostLinks-1)
	require.Equal(t, got[1].Links[0].SpanContext.SpanID(), got[1].Parent.SpanID(), "the first caller that is recorded")
	require.Equal(t, got[1].SpanContext.SpanID(), got[0].Parent.SpanID())

	_, none := StartBatch(context.Background(), "commit", items[:1], spanOf)
	require.False(t, none.Recorded())
}

func TestTracingThatIsOffCostsNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	ctx := t.Context()
	failed := errors.New("x")
	var none *Tracing
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		ctx, root := none.Start(ctx, Server, good, "GET", "")
		ctx, span := Start(ctx, Producer, "send", "prices")
		span.Text("key", "value")
		span.Int("key", 1)
		span.Fail("code")
		_, again := Continue(ctx, good, Internal, "replay", "")
		_ = Current(ctx)
		if Header(ctx) != "" {
			panic("a trace")
		}
		_, _ = IDs(ctx)
		again.End(failed)
		span.End(failed)
		root.End(nil)
	}))
	none.Close(0)
}

func BenchmarkOff(b *testing.B) {
	ctx := context.WithValue(b.Context(), benchmarkKey{}, 1)
	b.ReportAllocs()
	for b.Loop() {
		_, span := Start(ctx, Client, "PIPELINE", "")
		span.Text("db.system.name", "redis")
		span.End(nil)
	}
}

type benchmarkKey struct{}

// Package collector is an OTLP endpoint in this process, for tests. [Record] does without the endpoint.
package collector

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was exported. IDs are in hex.
type Span struct {
	Service, Name       string
	Kind                otlp.Span_SpanKind
	TraceID, ID, Parent string   // Parent is empty for a root
	Links               []string // trace ID, a slash, and span ID of each
	Attributes          map[string]string
	Failed              bool
	ResourceAttributes  map[string]string
}

// Collector keeps the spans that it gets. Safe for concurrent use.
type Collector struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	mu      sync.Mutex
	spans   []Span
	headers http.Header   // of the last request
	changed chan struct{} // closed with the next request
}

// Record returns a context with a span, and a function that returns the spans that have ended since.
func Record(ctx context.Context) (context.Context, func() tracetest.SpanStubs) {
	spans := tracetest.NewInMemoryExporter()
	ctx, _ = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)).Tracer("test").Start(ctx, "root")
	return ctx, spans.GetSpans
}

// Start serves until the test ends.
func Start(t *testing.T) *Collector {
	t.Helper()
	c := &Collector{changed: make(chan struct{})}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// ServeHTTP takes an export request. It has the form of TracesData, whose type does not link gRPC.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data otlp.TracesData
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &data) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range data.GetResourceSpans() {
		about := attributes(from.GetResource().GetAttributes())
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, read(s, about))
			}
		}
	}
	c.headers = r.Header
	close(c.changed)
	c.changed = make(chan struct{})
}

func read(s *otlp.Span, about map[string]string) Span {
	span := Span{
		Service: about["service.name"], ResourceAttributes: about, Name: s.GetName(), Kind: s.GetKind(),
		TraceID: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		Attributes: attributes(s.GetAttributes()), Failed: s.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR,
	}
	for _, l := range s.GetLinks() {
		span.Links = append(span.Links, hex.EncodeToString(l.GetTraceId())+"/"+hex.EncodeToString(l.GetSpanId()))
	}
	return span
}

func attributes(all []*common.KeyValue) map[string]string {
	named := map[string]string{}
	for _, a := range all {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			named[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			named[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return named
}

// Spans returns what has come so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Headers returns the headers of the last request.
func (c *Collector) Headers() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers
}

// Wait returns the first span for which found returns true; found may call Wait. The test fails if none comes within a minute.
func (c *Collector) Wait(t *testing.T, what string, found func(Span) bool) Span {
	t.Helper()
	late := time.After(time.Minute)
	for {
		c.mu.Lock()
		spans, changed := slices.Clone(c.spans), c.changed
		c.mu.Unlock()
		if i := slices.IndexFunc(spans, found); i >= 0 {
			return spans[i]
		}
		select {
		case <-changed:
		case <-late:
			for _, s := range c.Spans() {
				t.Log(s.Service, s.Name, s.TraceID, s.ID, s.Parent)
			}
			require.FailNow(t, "no span: "+what)
		}
	}
}

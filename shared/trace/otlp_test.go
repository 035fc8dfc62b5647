package trace

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	otel "go.opentelemetry.io/otel/trace"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

func one() sdktrace.ReadOnlySpan {
	parent, _ := parse(good)
	own := parent.WithSpanID(otel.SpanID{1, 2, 3, 4, 5, 6, 7, 8}).WithRemote(false)
	return tracetest.SpanStub{
		Name: "GET /x", SpanContext: own, Parent: parent, SpanKind: Server,
		StartTime: time.Unix(1, 5), EndTime: time.Unix(2, 0),
		Attributes: []attribute.KeyValue{
			attribute.String("text", "ü"), attribute.String("empty", ""), attribute.Int("number", -1), attribute.Bool("yes", true), attribute.Bool("no", false),
			attribute.Float64("half", 0.5),
		},
		Links:    []sdktrace.Link{{SpanContext: own}, {SpanContext: parent}},
		Status:   sdktrace.Status{Code: codes.Error, Description: "storage_unavailable"},
		Resource: resource.NewSchemaless(attribute.String("service.name", "x")),
	}.Snapshot()
}

// What is sent is what OTLP's own types read.
func TestEncoding(t *testing.T) {
	t.Parallel()
	var got, want otlp.TracesData // has the form of an ExportTraceServiceRequest
	require.NoError(t, proto.Unmarshal(encode([]sdktrace.ReadOnlySpan{one(), one()}), &got))
	span := `{
		"traceId": "S/kvNXezTaajzpKdDg5HNg==", "spanId": "AQIDBAUGBwg=", "parentSpanId": "APBnqgupArc=", "flags": 769,
		"name": "GET /x", "kind": "SPAN_KIND_SERVER", "startTimeUnixNano": "1000000005", "endTimeUnixNano": "2000000000",
		"attributes": [
			{"key": "text", "value": {"stringValue": "ü"}}, {"key": "empty", "value": {"stringValue": ""}}, {"key": "number", "value": {"intValue": "-1"}},
			{"key": "yes", "value": {"boolValue": true}}, {"key": "no", "value": {"boolValue": false}}, {"key": "half", "value": {"doubleValue": 0.5}}
		],
		"links": [
			{"traceId": "S/kvNXezTaajzpKdDg5HNg==", "spanId": "AQIDBAUGBwg=", "flags": 257},
			{"traceId": "S/kvNXezTaajzpKdDg5HNg==", "spanId": "APBnqgupArc=", "flags": 769}
		],
		"status": {"code": "STATUS_CODE_ERROR", "message": "storage_unavailable"}
	}`
	require.NoError(t, protojson.Unmarshal([]byte(`{"resourceSpans": [{
		"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
		"scopeSpans": [{"scope": {"name": "marketdata"}, "spans": [`+span+`,`+span+`]}]
	}]}`), &want))
	require.Equal(t, protojson.Format(&want), protojson.Format(&got))
}

// A request is repeated if the endpoint says that it may succeed later, and only then.
func TestARequestThatIsPutOffIsRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status, requests int
	}{
		"unavailable": {http.StatusServiceUnavailable, 3}, "too many": {http.StatusTooManyRequests, 3},
		"refused": {http.StatusUnauthorized, 1}, "internal": {http.StatusInternalServerError, 1}, "accepted": {http.StatusOK, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				e := newEndpoint(Config{Endpoint: "http://x"})
				e.client.Transport = roundTrip(func(*http.Request) *http.Response {
					w := httptest.NewRecorder()
					if requests++; requests < 3 {
						w.WriteHeader(c.status)
					}
					return w.Result()
				})
				err := e.ExportSpans(t.Context(), []sdktrace.ReadOnlySpan{one()})
				require.Equal(t, c.requests, requests)
				require.Equal(t, c.requests == 1 && c.status != http.StatusOK, err != nil)
			})
		})
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

package trace

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// FuzzTraceparent compares with the grammar of W3C Trace Context.
func FuzzTraceparent(f *testing.F) {
	for _, header := range []string{good, "ff" + good[2:], good[:54] + "-", "00-" + strings.Repeat("0", 32) + good[35:], strings.ToUpper(good), good + "\r\nX: y"} {
		f.Add(header)
	}
	grammar := regexp.MustCompile(`\A[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\z`)
	f.Fuzz(func(t *testing.T, header string) {
		parts := grammar.FindStringSubmatch(header)
		require.Equal(t, parts != nil, Usable(header))
		parent, ok := parse(header)
		if parts == nil {
			require.False(t, ok)
			require.Empty(t, IDOf(header))
			return
		}
		require.Equal(t, parts[1], IDOf(header))
		require.Equal(t, header[:2] != "ff" && strings.Trim(parts[1], "0") != "" && strings.Trim(parts[2], "0") != "", ok)
		if ok {
			require.Equal(t, "00"+header[2:53], format(parent)[:53])
			require.True(t, Usable(format(parent)))
		}
	})
}

// FuzzParseHeaders reads the setting of an endpoint's headers: those that are accepted can be sent, and stay headers of their own.
func FuzzParseHeaders(f *testing.F) {
	for _, text := range []string{"a=b", " api-key = k%20v , x=", "a=%0d%0aX: y", "a b=c", "a:b=c", "ä=b", "=", "a", "a=%zz", "Host=x", "a=\x7f"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := parseHeaders(text)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "http://h/", nil)
		r.Header = headers
		sent := &strings.Builder{}
		require.NoError(t, r.Write(sent))
		for name, values := range headers {
			require.Regexp(t, "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", name)
			require.Len(t, values, 1)
			require.False(t, strings.ContainsFunc(values[0], func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }), "%q", values[0])
		}
	})
}

// FuzzSpan reads what is sent of any texts with OTLP's own types.
func FuzzSpan(f *testing.F) {
	f.Add("GET /x", "key", "value", int64(-1))
	f.Add("", "", "\x00", int64(0))
	f.Fuzz(func(t *testing.T, name, key, value string, number int64) {
		for _, text := range []string{name, key, value} {
			if strings.ToValidUTF8(text, "") != text {
				return // package request replaces what is not UTF-8
			}
		}
		span := tracetest.SpanStub{
			Name: name, Attributes: []attribute.KeyValue{attribute.String(key, value), attribute.Int64("n", number)},
			Resource: resource.NewSchemaless(attribute.String("service.name", value)),
		}.Snapshot()
		var got otlp.TracesData
		require.NoError(t, proto.Unmarshal(encode([]sdktrace.ReadOnlySpan{span}), &got))
		read := got.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0]
		require.Equal(t, name, read.GetName())
		require.Equal(t, key, read.GetAttributes()[0].GetKey())
		require.Equal(t, value, read.GetAttributes()[0].GetValue().GetStringValue())
		require.Equal(t, number, read.GetAttributes()[1].GetValue().GetIntValue())
	})
}

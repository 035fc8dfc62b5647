package trace

import (
	"encoding/binary"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"
)

// message is a message of OTLP in protobuf's wire format: opentelemetry/proto/trace/v1/trace.proto. The official types would link gRPC,
// and make each program 20 MB larger. A test decodes what is written here with them.
type message []byte

func (m message) tag(field, wireType int) message {
	return binary.AppendUvarint(m, uint64(field<<3|wireType)) //nolint:gosec // small constants
}

// bytes adds a text, bytes, or a message.
func (m message) bytes(field int, value []byte) message {
	return append(binary.AppendUvarint(m.tag(field, 2), uint64(len(value))), value...)
}

func (m message) varint(field int, value uint64) message {
	return binary.AppendUvarint(m.tag(field, 0), value)
}

func (m message) fixed64(field int, value uint64) message {
	return binary.LittleEndian.AppendUint64(m.tag(field, 1), value)
}

func (m message) fixed32(field int, value uint32) message {
	return binary.LittleEndian.AppendUint32(m.tag(field, 5), value)
}

func (m message) time(field int, at time.Time) message {
	return m.fixed64(field, uint64(at.UnixNano()))
}

func (m message) attributes(field int, all []attribute.KeyValue) message {
	for _, a := range all {
		value := message{}
		switch a.Value.Type() {
		case attribute.INT64:
			value = value.varint(3, uint64(a.Value.AsInt64())) //nolint:gosec // two's complement is meant
		case attribute.BOOL:
			value = value.varint(2, map[bool]uint64{true: 1}[a.Value.AsBool()])
		case attribute.FLOAT64:
			value = value.fixed64(4, math.Float64bits(a.Value.AsFloat64()))
		default:
			value = value.bytes(1, []byte(a.Value.String()))
		}
		m = m.bytes(field, message{}.bytes(1, []byte(a.Key)).bytes(2, value))
	}
	return m
}

// flags of a span and of a link: the trace flags, and whether the parent, or the linked span, is of another process.
func flags(own, other otel.SpanContext) uint32 {
	const knowsRemote, isRemote = 0x100, 0x200
	f := uint32(own.TraceFlags()) | knowsRemote
	if other.IsRemote() {
		f |= isRemote
	}
	return f
}

// encode returns an ExportTraceServiceRequest. All spans are of one resource, that of the process, and of one scope, ours.
func encode(spans []sdktrace.ReadOnlySpan) []byte {
	scopeSpans := message{}.bytes(1, message{}.bytes(1, []byte(scope)))
	for _, s := range spans {
		scopeSpans = scopeSpans.bytes(2, encodeSpan(s))
	}
	about := message{}.attributes(1, spans[0].Resource().Attributes())
	return message{}.bytes(1, message{}.bytes(1, about).bytes(2, scopeSpans))
}

func encodeSpan(s sdktrace.ReadOnlySpan) message {
	c, parent := s.SpanContext(), s.Parent()
	traceID, spanID := c.TraceID(), c.SpanID()
	m := message{}.bytes(1, traceID[:]).bytes(2, spanID[:])
	if parentID := parent.SpanID(); parentID.IsValid() {
		m = m.bytes(4, parentID[:])
	}
	m = m.bytes(5, []byte(s.Name())).varint(6, uint64(s.SpanKind())) //nolint:gosec // OTLP has the same numbers
	m = m.time(7, s.StartTime()).time(8, s.EndTime()).attributes(9, s.Attributes())
	for _, l := range s.Links() {
		traceID, spanID := l.SpanContext.TraceID(), l.SpanContext.SpanID()
		m = m.bytes(13, message{}.bytes(1, traceID[:]).bytes(2, spanID[:]).fixed32(6, flags(l.SpanContext, l.SpanContext)))
	}
	if status := s.Status(); status.Code == codes.Error {
		m = m.bytes(15, message{}.bytes(2, []byte(status.Description)).varint(3, 2))
	}
	return m.fixed32(16, flags(c, parent))
}

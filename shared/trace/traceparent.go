package trace

import otel "go.opentelemetry.io/otel/trace"

// form is the form of a traceparent of version 00 (W3C Trace Context, section 3.2.2); x is a lower-case hex digit.
const form = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx"

// Usable reports whether a header has the form of a traceparent. Others are not passed on.
func Usable(traceparent string) bool {
	if len(traceparent) != len(form) {
		return false
	}
	for i := range len(traceparent) {
		c := traceparent[i]
		if digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'; digit != (form[i] == 'x') || !digit && c != '-' {
			return false
		}
	}
	return true
}

// IDOf returns the trace ID of a usable traceparent, otherwise nothing.
func IDOf(traceparent string) string {
	if !Usable(traceparent) {
		return ""
	}
	return traceparent[3:35]
}

// parse reads a traceparent. ok is false if no span can have it as its parent: it is not usable, has the version ff, or an ID of zeros.
func parse(traceparent string) (parent otel.SpanContext, ok bool) {
	if !Usable(traceparent) || traceparent[:2] == "ff" {
		return parent, false
	}
	traceID, err := otel.TraceIDFromHex(traceparent[3:35])
	if err != nil {
		return parent, false
	}
	spanID, err := otel.SpanIDFromHex(traceparent[36:52])
	if err != nil {
		return parent, false
	}
	// Only the flag "sampled" is defined, the lowest bit.
	var flags otel.TraceFlags
	if digit := traceparent[54]; digit <= '9' && digit%2 == 1 || digit > '9' && digit%2 == 0 {
		flags = otel.FlagsSampled
	}
	return otel.NewSpanContext(otel.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: flags, Remote: true}), true
}

func format(c otel.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

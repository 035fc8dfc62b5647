package deadletter_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	otel "go.opentelemetry.io/otel/trace"

	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

func names(r kafkaclient.Record) map[string]string {
	out := map[string]string{}
	for _, h := range r.Headers {
		out[h.Name] = string(h.Value)
	}
	return out
}

func TestRecordOfAPlainRecord(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "partition:3/offset:9", "Ce-Source": "/s", "Ce-Type": "dev.knative.kafka.event", "Ce-Key": "AP8=",
		"Ce-Partitionkey": "AP8=", "Ce-Kafkatopic": "price-events", "Ce-Knativekafkapartition": "3", "Ce-Knativekafkaoffset": "9",
		"Content-Type": "text/plain", "Traceparent": "00-x", "User-Agent": "dropped",
	} {
		h.Set(name, value)
	}
	body := []byte("\x00\xff")
	r := deadletter.Letter{
		Header: h, Body: body, Function: "compute-ma", FailedAt: time.Date(2024, 1, 1, 0, 0, 0, 5, time.UTC),
		Err: fmt.Errorf("x: %w", fault.Wrap(errors.New("cause"), fault.Invalid, "undecodable", "data is not JSON")),
	}.Record("dlq")
	require.Equal(t, "dlq", r.Topic)
	require.Equal(t, body, r.Value)
	require.Equal(t, []byte{0, 255}, r.Key, "the key's own bytes")
	require.Equal(t, map[string]string{
		"content-type": "text/plain", "ce_specversion": "1.0", "ce_id": "partition:3/offset:9", "ce_source": "/s",
		"ce_type": "dev.knative.kafka.event", "ce_key": "AP8=", "ce_partitionkey": "AP8=", "ce_kafkatopic": "price-events",
		"ce_knativekafkapartition": "3", "ce_knativekafkaoffset": "9", "traceparent": "00-x",
		"dlq-reason": "data is not JSON", "dlq-code": "undecodable", "dlq-topic": "price-events", "dlq-partition": "3", "dlq-offset": "9",
		"dlq-failed-at": "2024-01-01T00:00:00.000000005Z", "dlq-function": "compute-ma",
		"__connect.errors.topic": "price-events", "__connect.errors.partition": "3", "__connect.errors.offset": "9",
		"__connect.errors.exception.class.name": "undecodable", "__connect.errors.exception.message": "data is not JSON",
	}, names(r))
}

func TestRecordOfAConnectorDelivery(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	h.Set("X-Topic", "prices")
	h.Set("X-Kafka-Partition", "1")
	h.Set("X-Kafka-Offset", "not a number")
	h.Set("X-Kafka-Key", "AQI=")
	h.Set("X-Kafka-Key-Enc", "b64")
	r := deadletter.Letter{Header: h, Err: errors.New("boom")}.Record("dlq")
	require.Equal(t, []byte{1, 2}, r.Key)
	require.NotNil(t, r.Value, "an empty body is an empty value")
	n := names(r)
	require.Equal(t, "prices", n["dlq-topic"])
	require.NotContains(t, n, "dlq-offset")
	require.Equal(t, "internal", n["dlq-code"])
	require.NotContains(t, n, "dlq-reason", "the text of an unknown error is not shown")

	h.Del("X-Kafka-Key-Enc")
	require.Equal(t, "AQI=", string(deadletter.Letter{Header: h, Err: errors.New("boom")}.Record("dlq").Key), "a key that is text")
}

// Only the key of a plain record is in base64. What is not is the key itself.
func TestKeyOfARecord(t *testing.T) {
	t.Parallel()
	const plain = "dev.knative.kafka.event"
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"plain record":           {http.Header{"Ce-Type": {plain}, "Ce-Key": {"AQI="}}, "\x01\x02"},
		"plain record, text":     {http.Header{"Ce-Type": {plain}, "Ce-Key": {"AQ I="}}, "AQ I="},
		"event with a key":       {http.Header{"Ce-Type": {"t"}, "Ce-Key": {"AQI="}, "Ce-Partitionkey": {"AAPL"}}, "AAPL"},
		"connector, not base64":  {http.Header{"X-Kafka-Key": {"AQ I="}, "X-Kafka-Key-Enc": {"b64"}}, "AQ I="},
		"plain record, no key":   {http.Header{"Ce-Type": {plain}, "Ce-Partitionkey": {"AAPL"}}, "AAPL"},
		"neither a key nor text": {http.Header{"Ce-Type": {plain}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, string(deadletter.Letter{Header: c.header, Err: errors.New("x")}.Record("dlq").Key))
		})
	}
}

// Texts that anybody could make long are cut: the reason, and the name of a topic.
func TestTextsAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	n := names(deadletter.Letter{Header: http.Header{"X-Topic": {long}}, Err: fault.New(fault.Invalid, "c", "%s", long)}.Record("dlq"))
	require.Len(t, n["dlq-reason"], 2000)
	require.Len(t, n["dlq-topic"], 249)
}

// With tracing, a letter continues the trace of the function that refused its event. The delivery keeps its own header.
func TestALetterContinuesTheTrace(t *testing.T) {
	t.Parallel()
	const delivered = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	h, p := http.Header{"Traceparent": {delivered}}, &topic{bound: 1 << 20}
	ctx := otel.ContextWithSpanContext(t.Context(), otel.NewSpanContext(otel.SpanContextConfig{TraceID: otel.TraceID{1}, SpanID: otel.SpanID{2}}))
	require.NoError(t, deadletter.Writer{Producer: p, Topic: "dlq"}.Write(ctx, deadletter.Letter{Header: h, Err: errors.New("x")}))
	require.Equal(t, "00-01000000000000000000000000000000-0200000000000000-00", names(p.records[0])["traceparent"])
	require.Equal(t, delivered, h.Get("Traceparent"))
}

// A replay needs the attributes, and knows them by the names that a KafkaSource's letters have.
func TestAttributesOfAConnectorDelivery(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	for name, value := range map[string]string{
		"X-Topic": "prices", "Content-Type": "text/plain", "X-Kafka-Content-Type": "application/json", "X-Kafka-Ce_type": "t", "X-Kafka-Ce_correction": "2",
		"X-Kafka-Other": "x", "Ce_other": "dropped",
	} {
		h.Set(name, value)
	}
	n := names(deadletter.Letter{Header: h, Err: errors.New("boom")}.Record("dlq"))
	require.Equal(t, []string{"application/json", "t", "2", "x"}, []string{n["content-type"], n["ce_type"], n["ce_correction"], n["x-kafka-other"]})
	require.NotContains(t, n, "x-kafka-ce_type")
	require.NotContains(t, n, "x-kafka-content-type")
	require.NotContains(t, n, "ce_other")
	delete(h, "X-Kafka-Content-Type")
	require.Equal(t, "text/plain", names(deadletter.Letter{Header: h}.Record("dlq"))["content-type"])
	h["X-Kafka-Content-Type"] = []string{}
	require.NotContains(t, names(deadletter.Letter{Header: h}.Record("dlq")), "content-type", "the connector's own is not the record's")
}

func TestEveryDeliveredHeaderIsKept(t *testing.T) {
	t.Parallel()
	h := http.Header{"Ce-Id": {"1"}, "Ce-Empty": {""}, "X-Kafka-Twice": {"a", "b"}, "Content-Encoding": {"gzip"}, "Host": {"dropped"}}
	r := deadletter.Letter{Header: h, Err: errors.New("x")}.Record("dlq")
	require.Equal(t, []kafkaclient.Header{
		{Name: "ce_empty", Value: []byte{}},
		{Name: "ce_id", Value: []byte("1")},
		{Name: "content-encoding", Value: []byte("gzip")},
		{Name: "x-kafka-twice", Value: []byte("a")},
		{Name: "x-kafka-twice", Value: []byte("b")},
	}, r.Headers[:5])
}

// topic is a producer to a topic that takes records up to a bound, in bytes.
type topic struct {
	bound   int
	err     error
	records []kafkaclient.Record
}

func (p *topic) Produce(_ context.Context, r kafkaclient.Record) error {
	size := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += len(h.Name) + len(h.Value)
	}
	if size > p.bound {
		return fault.New(fault.Invalid, "message_too_large", "x")
	}
	if p.err != nil {
		return p.err
	}
	p.records = append(p.records, r)
	return nil
}

func write(t *testing.T, bound int, d deadletter.Letter) kafkaclient.Record {
	t.Helper()
	p := &topic{bound: bound}
	d.Err = errors.New("x")
	require.NoError(t, deadletter.Writer{Producer: p, Topic: "dlq"}.Write(t.Context(), d))
	require.Len(t, p.records, 1)
	return p.records[0]
}

func TestALetterIsWholeWhereTheTopicTakesItSo(t *testing.T) {
	t.Parallel()
	d := deadletter.Letter{Header: http.Header{"Ce-Big": {strings.Repeat("h", 500_000)}, "Ce-Partitionkey": {strings.Repeat("k", 250_000)}}, Body: bytes.Repeat([]byte{0}, 1_000_000)}
	r := write(t, 2<<20, d)
	require.Equal(t, d.Body, r.Value)
	require.Len(t, r.Key, 250_000)
	n := names(r)
	require.Len(t, n["ce_big"], 500_000)
	for _, marker := range []string{"dlq-value-bytes", "dlq-value-sha256", "dlq-key-bytes", "dlq-headers-cut"} {
		require.NotContains(t, n, marker)
	}
}

func TestALetterThatIsTooLargeSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	origin := func(extra http.Header) http.Header {
		h := http.Header{"Ce-Id": {"1"}, "Ce-Kafkatopic": {"price-events"}, "Ce-Knativekafkapartition": {"3"}, "Ce-Knativekafkaoffset": {"9"}}
		maps.Copy(h, extra)
		return h
	}
	value := bytes.Repeat([]byte("v"), 2_096_700)
	sum := fmt.Sprintf("%x", sha256.Sum256(value))
	many := origin(nil)
	for i := range 60_000 {
		many.Set(fmt.Sprint("Ce-Kafkaheader", i), "some value")
	}
	for name, c := range map[string]struct {
		letter  deadletter.Letter
		bound   int
		markers map[string]string
	}{
		"value just too large": {deadletter.Letter{Header: origin(nil), Body: value}, 2 << 20, map[string]string{"dlq-value-bytes": "2096700", "dlq-value-sha256": sum}},
		"value read in part":   {deadletter.Letter{Header: origin(nil), Body: value[:1000], Size: 3 << 20, SHA256: []byte{1, 2}}, 2 << 20, map[string]string{"dlq-value-bytes": "3145728", "dlq-value-sha256": "0102"}},
		"topic of 1 MiB":       {deadletter.Letter{Header: origin(nil), Body: value[:1_200_000]}, 1 << 20, map[string]string{"dlq-value-bytes": "1200000"}},
		"topic of 64 KiB":      {deadletter.Letter{Header: origin(nil), Body: value[:100_000]}, 64 << 10, map[string]string{"dlq-value-bytes": "100000"}},
		"header":               {deadletter.Letter{Header: origin(http.Header{"Ce-Big": {strings.Repeat("h", 3_000_000)}}), Body: []byte("v")}, 2 << 20, map[string]string{"dlq-headers-cut": "1"}},
		"header's name":        {deadletter.Letter{Header: origin(http.Header{"Ce-" + strings.Repeat("h", 3_000_000): {"x"}}), Body: []byte("v")}, 2 << 20, map[string]string{"dlq-headers-cut": "1"}},
		"many headers":         {deadletter.Letter{Header: many, Body: []byte("v")}, 2 << 20, map[string]string{}},
		"key":                  {deadletter.Letter{Header: origin(http.Header{"Ce-Partitionkey": {strings.Repeat("k", 1_500_000)}}), Body: []byte("v")}, 2 << 20, map[string]string{"dlq-key-bytes": "1500000", "dlq-headers-cut": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := write(t, c.bound, c.letter)
			n := names(r)
			for marker, want := range c.markers {
				require.Equal(t, want, n[marker])
			}
			require.Equal(t, []string{"price-events", "3", "9"}, []string{n["dlq-topic"], n["dlq-partition"], n["dlq-offset"]}, "the place of the whole")
			require.Equal(t, "1", n["ce_id"])
			require.True(t, bytes.HasPrefix(c.letter.Body, r.Value))
			require.Less(t, r.Bytes(), deadletter.SinkBytes, "every later hop takes it")
			if _, cut := n["dlq-value-bytes"]; !cut {
				require.Equal(t, c.letter.Body, r.Value)
			}
			if name == "many headers" {
				left, err := strconv.Atoi(n["dlq-headers-cut"])
				require.NoError(t, err)
				var kept int
				for h := range n {
					if strings.HasPrefix(h, "ce_") {
						kept++
					}
				}
				require.Equal(t, len(many), kept+left, "each header is there or counted")
			}
		})
	}
}

// What is cut has round sizes, and is no shorter than it has to be.
func TestHowMuchOfALetterIsKept(t *testing.T) {
	t.Parallel()
	large := deadletter.Letter{
		Header: http.Header{
			"Ce-Big": {strings.Repeat("h", 1_000_000)}, "Ce-Partitionkey": {strings.Repeat("k", 1_000_000)},
			"Ce-" + strings.Repeat("n", 253): {"256 bytes"}, "Ce-" + strings.Repeat("n", 254): {"257 bytes"},
		},
		Body: make([]byte, 2_000_000),
	}
	for bound, want := range map[int]struct{ value, key, header int }{2 << 20: {512 << 10, 128 << 10, 64 << 10}, 64 << 10: {16 << 10, 4 << 10, 4 << 10}} {
		r := write(t, bound, large)
		n := names(r)
		require.Equal(t, []int{want.value, want.key, want.header}, []int{len(r.Value), len(r.Key), len(n["ce_big"])})
		require.Equal(t, "256 bytes", n["ce_"+strings.Repeat("n", 253)])
		require.Empty(t, n["ce_"+strings.Repeat("n", 254)])
	}
	many := http.Header{}
	for i := range 5000 {
		many.Set(fmt.Sprint("Ce-A", 1000+i), strings.Repeat("v", 60))
	}
	many["X-Kafka-Twice"] = []string{strings.Repeat("v", 60), strings.Repeat("v", 32)}
	n := names(write(t, 1<<20, deadletter.Letter{Header: many, Body: make([]byte, 1_000_000)}))
	require.Equal(t, "5001", n["dlq-headers-cut"], "one is not, though two look like it")
	for i := range 5000 {
		require.Equal(t, strings.Repeat("v", 32), n[fmt.Sprint("ce_a", 1000+i)], "all are there, cut in half until they fit")
	}
}

// Of many headers, those that tell what an event is and where it was are kept.
func TestHeadersOfTheEventAreKeptFirst(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	for i := range 5000 {
		h.Set(fmt.Sprint("Ce-A", i), "some value")
	}
	want := map[string]string{}
	for _, name := range []string{
		"content-type", "traceparent", "x-topic", "x-kafka-partition", "x-kafka-offset", "ce_specversion", "ce_id", "ce_source", "ce_type",
		"ce_time", "ce_subject", "ce_correction", "ce_kafkatopic", "ce_knativekafkapartition", "ce_knativekafkaoffset",
	} {
		want[name] = "of " + name
		h.Set(strings.Replace(name, "ce_", "Ce-", 1), want[name])
	}
	n := names(write(t, 64<<10, deadletter.Letter{Header: h, Body: []byte("v")}))
	require.NotEmpty(t, n["dlq-headers-cut"])
	for name, value := range want {
		require.Equal(t, value, n[name])
	}
}

// A KafkaSink must have room for the whole event, and for what the source adds to it.
func TestFitsSink(t *testing.T) {
	t.Parallel()
	const sink = 1 << 20 // max.request.size of its producer
	room := sink - 8<<10 - deadletter.Letter{}.Record("").Bytes()
	require.True(t, deadletter.Letter{Body: make([]byte, room)}.FitsSink())
	require.False(t, deadletter.Letter{Body: make([]byte, room+1)}.FitsSink())
	require.False(t, deadletter.Letter{Body: []byte("{"), Size: sink}.FitsSink(), "only its beginning was read")
}

// Trouble with the broker is not a matter of size.
func TestALetterIsNotCutForTrouble(t *testing.T) {
	t.Parallel()
	p := &topic{bound: 1 << 20, err: fault.New(fault.Unavailable, "broker_unavailable", "x")}
	err := deadletter.Writer{Producer: p, Topic: "dlq"}.Write(t.Context(), deadletter.Letter{Err: errors.New("x")})
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

package kafkasource

import (
	"encoding/binary"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var spec = Spec{Name: "src", Namespace: "ns", KeyType: "byte-array", Extensions: map[string]string{"kafkatopic": "prices"}}

func headers(pairs ...string) []Header {
	var out []Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Header{pairs[i], []byte(pairs[i+1])})
	}
	return out
}

func recordOf(value []byte, h []Header) Record {
	return Record{Topic: "prices", Partition: 3, Offset: 42, Value: value, Headers: h, Timestamp: time.UnixMilli(1700000000120)}
}

func TestPlainRecord(t *testing.T) {
	t.Parallel()
	r := recordOf([]byte("\x00\xff"), headers("X-My_Header", "v1", "content-TYPE", "Text/PLAIN; Charset=X", "xmyheader", "v2"))
	r.Key = []byte{0, 255}
	ev := FromRecord(r, spec)
	require.Equal(t, map[string]string{
		"specversion": "1.0", "id": "partition:3/offset:42", "source": "/apis/v1/namespaces/ns/kafkasources/src#prices",
		"type": "dev.knative.kafka.event", "subject": "partition:3#42", "time": "2023-11-14T22:13:20.12Z",
		"key": "AP8=", "partitionkey": "AP8=", "kafkaheaderxmyheader": "v2",
		"knativekafkapartition": "3", "knativekafkaoffset": "42", "kafkatopic": "prices",
	}, ev.Attributes)
	require.Equal(t, "text/plain; charset=x", ev.ContentType, "all of it in lower case")
	require.Equal(t, []byte("\x00\xff"), ev.Data)
}

func TestEmptyPlainRecord(t *testing.T) {
	t.Parallel()
	ev := FromRecord(recordOf(nil, nil), spec)
	require.Nil(t, ev.Data, "a null value is an event without data")
	require.Empty(t, ev.ContentType)
	require.NotContains(t, ev.Attributes, "key")
	r := recordOf([]byte{}, nil)
	r.Timestamp = time.UnixMilli(-1)
	ev = FromRecord(r, spec)
	require.Equal(t, "1969-12-31T23:59:59.999Z", ev.Attributes["time"])
}

func TestTimesAreTrimmed(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{12000: "1970-01-01T00:00:12Z", 12100: "1970-01-01T00:00:12.1Z", 12345: "1970-01-01T00:00:12.345Z"} {
		r := recordOf(nil, nil)
		r.Timestamp = time.UnixMilli(ms)
		require.Equal(t, want, FromRecord(r, spec).Attributes["time"])
	}
}

func TestBinaryCloudEvent(t *testing.T) {
	t.Parallel()
	h := headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t", "ce_Correction", "2", "content-type", "application/JSON", "traceparent", "00-x", "other", "dropped")
	r := recordOf([]byte(`{"a": 1.10}`), h)
	r.Key = []byte("AAPL")
	ev := FromRecord(r, spec)
	require.Equal(t, map[string]string{
		"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "correction": "2",
		"knativekafkapartition": "3", "knativekafkaoffset": "42", "kafkatopic": "prices",
	}, ev.Attributes, "other headers are dropped and the key is not mapped")
	require.Equal(t, "application/JSON", ev.ContentType)
	require.JSONEq(t, `{"a": 1.10}`, string(ev.Data))
	require.Equal(t, "00-x", ev.Traceparent)
	require.Nil(t, FromRecord(recordOf([]byte{}, h), spec).Data, "an empty value means no data")
}

func TestInvalidCloudEventIsAPlainRecord(t *testing.T) {
	t.Parallel()
	whole := map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "ce_time": "2024-01-01T00:00:00Z"}
	for name, change := range map[string]func(map[string]string){
		"no id":               func(m map[string]string) { delete(m, "ce_id") },
		"no source":           func(m map[string]string) { delete(m, "ce_source") },
		"no type":             func(m map[string]string) { delete(m, "ce_type") },
		"bad time":            func(m map[string]string) { m["ce_time"] = "yesterday" },
		"unknown version":     func(m map[string]string) { m["ce_specversion"] = "2.0" },
		"no version":          func(m map[string]string) { delete(m, "ce_specversion") },
		"bad attribute name":  func(m map[string]string) { m["ce_a-b"] = "x" },
		"unregistered format": func(m map[string]string) { m["content-type"] = "application/cloudevents+avro" },
		"broken structured":   func(m map[string]string) { m["content-type"] = "application/cloudevents+json" },
	} {
		m := maps.Clone(whole)
		change(m)
		var h []Header
		for k, v := range m {
			h = append(h, Header{k, []byte(v)})
		}
		ev := FromRecord(recordOf([]byte("{"), h), spec)
		require.Equal(t, "dev.knative.kafka.event", ev.Attributes["type"], name)
	}
	ev := FromRecord(recordOf(nil, headers("ce_specversion", "1.0")), spec)
	require.Equal(t, "1.0", ev.Attributes["kafkaheadercespecversion"])
}

func TestStructuredCloudEventIsDeliveredInBinaryMode(t *testing.T) {
	t.Parallel()
	value := []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"x","ext":5,"data":{"a":1}}`)
	ev := FromRecord(recordOf(value, headers("content-type", "application/cloudevents+json; charset=utf-8")), spec)
	require.Equal(t, "t", ev.Attributes["type"])
	require.Equal(t, "5", ev.Attributes["ext"])
	require.Equal(t, "application/json", ev.ContentType)
	require.JSONEq(t, `{"a":1}`, string(ev.Data))
	ev = FromRecord(recordOf(value, headers("content-type", "Application/CloudEvents+json")), spec)
	require.Equal(t, "dev.knative.kafka.event", ev.Attributes["type"], "the data plane compares the name exactly")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	four, eight := make([]byte, 4), make([]byte, 8)
	binary.BigEndian.PutUint32(four, uint32(0xFFFFFFFE))
	binary.BigEndian.PutUint64(eight, math.Float64bits(1e10))
	half := make([]byte, 4)
	binary.BigEndian.PutUint32(half, math.Float32bits(0.5))
	cases := []struct {
		kind string
		key  []byte
		want string
	}{
		{"string", []byte("AAPL"), "AAPL"},
		{"", []byte("a\xff"), "a\uFFFD"},
		{"unknown", []byte("x"), "x"},
		{"int", four, "-2"},
		{"int", []byte("abc"), "abc"},
		{"float", eight, "1.0E10"},
		{"float", half, "0.5"},
		{"float", []byte("x"), "x"},
		{"byte-array", []byte{1, 2}, "AQI="},
	}
	for _, c := range cases {
		got, ok := keyText(c.key, c.kind)
		require.True(t, ok)
		require.Equal(t, c.want, got, c.kind)
	}
	_, ok := keyText([]byte{}, "string")
	require.False(t, ok)
}

func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	h := requestHeader(Event{Attributes: map[string]string{"id": "100%25", "subject": "Zürich €", "2x": "y"}, Traceparent: "00-x"}, "ns")
	require.Equal(t, "100%25", h.Get("ce-id"), "nothing is percent-encoded")
	require.Equal(t, "Z\xfcrich ?", h.Get("ce-subject"), "one Latin-1 byte for each character, ? above U+00FF")
	require.Equal(t, "y", h.Get("ce-2x"))
	require.Equal(t, "reply", h.Get("Prefer"))
	require.Equal(t, "ns", h.Get("Kn-Namespace"))
	require.Equal(t, "00-x", h.Get("traceparent"))
	require.NotContains(t, h, "Content-Type")
	require.True(t, strings.HasPrefix(h.Get("User-Agent"), "Vert.x-WebClient/"))
}

// Vert.x refuses control characters, so the data plane loses such an event.
func TestControlCharactersAreDeliveredAsQuestionMarks(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"a\nb": "a?b", "\x00": "?", "\x7f": "?", "a\tb": "a\tb", "plain": "plain"} {
		ev := Event{Attributes: map[string]string{"key": value}, ContentType: value, Traceparent: value}
		h := requestHeader(ev, "ns")
		for _, name := range []string{"Ce-Key", "Content-Type", "Traceparent"} {
			require.Equal(t, want, h.Get(name), "%q", value)
		}
		require.Equal(t, want != value, ev.Unsendable() == "key", "%q", value)
	}
}

// A producer sends microseconds or nanoseconds for milliseconds.
func TestTimesBeyondTheYear9999(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{
		1_700_000_000_123_456: "+55840-11-08T22:15:23.456Z", -63_000_000_000_000: "-0027-08-11T08:00:00Z", -62_150_000_000_000: "0000-07-18T07:06:40Z",
	} {
		r := recordOf(nil, nil)
		r.Timestamp = time.UnixMilli(ms)
		require.Equal(t, want, FromRecord(r, spec).Attributes["time"])
	}
}

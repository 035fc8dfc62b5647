package kafkasource

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzFromRecord converts any record: the request can be sent, holds no header of its own making, and has the record's place and bytes.
func FuzzFromRecord(f *testing.F) {
	f.Add([]byte("AAPL"), []byte(`{"a":1.10}`), "ce_specversion", []byte("1.0"), "ce_id", []byte("1"), int64(1700000000120))
	f.Add([]byte("\xff"), []byte(`{"specversion":"1.0","id":"1\r\nX: y","source":"/s","type":"t","data":{"b":1,"b":2.50}}`), "content-type",
		[]byte("application/cloudevents+json"), "a:b\r\n", []byte("x\r\ny"), int64(-1))
	f.Add([]byte(nil), []byte(nil), "traceparent", []byte("\x00"), "ce_trace id", []byte("7"), int64(1)<<60)
	f.Add([]byte{}, []byte(`{"data":`+strings.Repeat("[", 20_000)), "Content-Type", []byte("application/cloudevents+json"), "", []byte(nil), int64(0))
	token := regexp.MustCompile("^[A-Za-z0-9-]+$")
	f.Fuzz(func(t *testing.T, key, value []byte, aName string, aValue []byte, bName string, bValue []byte, stamp int64) {
		r := Record{
			Topic: "prices", Partition: 3, Offset: 42, Key: key, Value: value, Headers: []Header{{aName, aValue}, {bName, bValue}}, Timestamp: time.UnixMilli(stamp),
		}
		ev := FromRecord(r, spec)
		require.Equal(t, "3", ev.Attributes["knativekafkapartition"])
		require.Equal(t, "42", ev.Attributes["knativekafkaoffset"])
		require.Equal(t, "prices", ev.Attributes["kafkatopic"])
		if ev.Attributes["type"] == "dev.knative.kafka.event" && ev.Attributes["id"] == "partition:3/offset:42" {
			require.Equal(t, string(value), string(ev.Data))
		}
		for name, values := range requestHeader(ev, "ns") {
			require.Equal(t, http.CanonicalHeaderKey(name), name)
			require.Regexp(t, token, name)
			for _, v := range values {
				require.False(t, strings.ContainsFunc(v, isControl), "%q: %q", name, v)
			}
		}
	})
}

// FuzzEncode encodes any JSON value again: it stays JSON, with the same value.
func FuzzEncode(f *testing.F) {
	for _, value := range []string{`{"a":1,"b":2,"a":3}`, `[null,true,{},-0]`, `"\u0001\ud800"`, `1e400`, `0.1e-400`, `12345678901234567890.123`, strings.Repeat("[", 9000) + strings.Repeat("]", 9000)} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if !json.Valid(value) {
			return
		}
		got, _ := encode(value)
		require.True(t, json.Valid(got), "%s became %s", value, got)
		again, _ := encode(got)
		require.Equal(t, string(got), string(again))
	})
}

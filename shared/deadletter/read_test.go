package deadletter_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

func headersOf(pairs ...string) []kafkaclient.Header {
	var out []kafkaclient.Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, kafkaclient.Header{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

func TestHeaderFamilies(t *testing.T) {
	t.Parallel()
	four, eight := make([]byte, 4), make([]byte, 8)
	binary.BigEndian.PutUint32(four, 3)
	binary.BigEndian.PutUint64(eight, 1234567)
	problem := base64.StdEncoding.EncodeToString([]byte(`{"code":"body_too_large","detail":"the event is larger"}`))
	cases := map[string]struct {
		headers []kafkaclient.Header
		origin  *kafkaclient.Place
		code    string
		reason  string
	}{
		"ours": {
			headersOf("dlq-topic", "t", "dlq-partition", "3", "dlq-offset", "9", "dlq-code", "invalid_price", "dlq-reason", "r", "dlq-failed-at", "2024-02-01T00:00:00Z", "__connect.errors.topic", "other"),
			&kafkaclient.Place{Topic: "t", Partition: 3, Offset: 9}, "invalid_price", "r",
		},
		"connect": {
			headersOf("__connect.errors.topic", "t", "__connect.errors.partition", "3", "__connect.errors.offset", "9", "__connect.errors.exception.class.name", "E", "__connect.errors.exception.message", "m"),
			&kafkaclient.Place{Topic: "t", Partition: 3, Offset: 9}, "E", "m",
		},
		"streams": {
			headersOf("__streams.errors.topic", "t", "__streams.errors.partition", "3", "__streams.errors.offset", "9", "__streams.errors.exception", "E", "__streams.errors.message", "m"),
			&kafkaclient.Place{Topic: "t", Partition: 3, Offset: 9}, "E", "m",
		},
		"spring": {
			headersOf("kafka_dlt-original-topic", "t", "kafka_dlt-original-partition", string(four), "kafka_dlt-original-offset", string(eight), "kafka_dlt-exception-fqcn", "E", "kafka_dlt-exception-message", "m"),
			&kafkaclient.Place{Topic: "t", Partition: 3, Offset: 1234567}, "E", "m",
		},
		"knative with our problem": {
			headersOf("ce_kafkatopic", "t", "ce_knativekafkapartition", "3", "ce_knativekafkaoffset", "9", "ce_knativeerrordest", "http://f", "ce_knativeerrorcode", "413", "ce_knativeerrordata", problem),
			&kafkaclient.Place{Topic: "t", Partition: 3, Offset: 9}, "body_too_large", "the event is larger",
		},
		"knative with raw text":   {headersOf("ce_knativeerrordest", "http://f", "ce_knativeerrorcode", "500", "ce_knativeerrordata", "oops!"), nil, "http_500", "the function answered with status 500: oops!"},
		"knative with other JSON": {headersOf("ce_knativeerrordest", "http://f", "ce_knativeerrorcode", "500", "ce_knativeerrordata", `{"x":1}`), nil, "http_500", `the function answered with status 500: {"x":1}`},
		"knative without answer":  {headersOf("ce_knativeerrordest", "http://f"), nil, "delivery_failed", "no answer from the function"},
		"a status alone":          {headersOf("ce_knativeerrorcode", "500"), nil, "http_500", "the function answered with status 500"},
		"a place without a topic": {headersOf("dlq-partition", "3", "dlq-offset", "9"), nil, "unknown", ""},
		"a message alone":         {headersOf("kafka_dlt-exception-message", "m", "ce_knativeerrorcode", "500"), nil, "unknown", "m"},
		"an empty code":           {headersOf("dlq-code", "", "dlq-reason", "r", "dlq-function", "f"), nil, "unknown", "r"},
		"nothing":                 {nil, nil, "unknown", ""},
		"a partition below 0":     {headersOf("dlq-topic", "t", "dlq-partition", "-1", "dlq-offset", "9"), nil, "unknown", ""},
		"an offset below 0":       {headersOf("dlq-topic", "t", "dlq-partition", "3", "dlq-offset", "-1"), nil, "unknown", ""},
		"an offset of letters":    {headersOf("dlq-topic", "t", "dlq-partition", "3", "dlq-offset", "x"), nil, "unknown", ""},
		"the first place":         {headersOf("dlq-topic", "t", "dlq-partition", "0", "dlq-offset", "0"), &kafkaclient.Place{Topic: "t"}, "unknown", ""},
		"the last partition":      {headersOf("dlq-topic", "t", "dlq-partition", "2147483647", "dlq-offset", "9"), &kafkaclient.Place{Topic: "t", Partition: math.MaxInt32, Offset: 9}, "unknown", ""},
		"a partition of 33 bits":  {headersOf("dlq-topic", "t", "dlq-partition", "2147483648", "dlq-offset", "9"), nil, "unknown", ""},
		"invalid bytes":           {headersOf("dlq-code", "a\xff\x00b"), nil, "a\xff\x00b", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.origin, deadletter.Origin(c.headers))
			f := deadletter.FailureOf(c.headers)
			require.Equal(t, c.code, f.Code)
			require.Equal(t, c.reason, f.Reason)
			require.Equal(t, strings.HasPrefix(name, "knative"), f.Function == "http://f")
			if name == "ours" {
				require.Equal(t, time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC), f.FailedAt)
			} else {
				require.Zero(t, f.FailedAt)
			}
		})
	}
}

// What is written can be read: the place, the failure and what was cut.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	failed := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, header := range map[string]http.Header{
		"KafkaSource": {"Ce-Kafkatopic": {"prices"}, "Ce-Knativekafkapartition": {"3"}, "Ce-Knativekafkaoffset": {"1234567"}},
		"OpenFaaS":    {"X-Topic": {"prices"}, "X-Kafka-Partition": {"3"}, "X-Kafka-Offset": {"1234567"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{0, 10, 3 << 20} {
				body := bytes.Repeat([]byte("v"), size)
				p := &topic{bound: 1 << 20}
				require.NoError(t, deadletter.Writer{Producer: p, Topic: "dlq"}.Write(t.Context(), deadletter.Letter{
					Header: header, Body: body, Function: "f", FailedAt: failed, Err: fault.Wrap(errors.New("cause"), fault.Invalid, "invalid_price", "no price"),
				}))
				written := p.records[0]
				require.Equal(t, deadletter.Delivered(header), deadletter.Origin(written.Headers))
				require.Equal(t, &kafkaclient.Place{Topic: "prices", Partition: 3, Offset: 1234567}, deadletter.Origin(written.Headers))
				require.Equal(t, deadletter.Failure{Code: "invalid_price", Reason: "no price", Function: "f", FailedAt: failed}, deadletter.FailureOf(written.Headers))
				cut := deadletter.CutOf(written.Headers)
				require.Equal(t, len(written.Value) < size, cut != nil)
				if cut != nil {
					sum := sha256.Sum256(body)
					require.Equal(t, deadletter.NewCut(int64(size), sum[:]), *cut)
				}
			}
		})
	}
}

func TestTheSizeOfACutValueIsNotNegative(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]*deadletter.Cut{"1": {Bytes: 1, SHA256: "ab"}, "0": {SHA256: "ab"}, "-1": nil, "x": nil} {
		require.Equal(t, want, deadletter.CutOf(headersOf("dlq-value-bytes", size, "dlq-value-sha256", "AB")), size)
	}
}

// A family without a name for the function does not take a header without a name for it.
func TestAHeaderWithoutANameIsNoFunction(t *testing.T) {
	t.Parallel()
	require.Empty(t, deadletter.FailureOf(headersOf("__streams.errors.message", "m", "", "f")).Function)
}

func TestTheFirstRecordIsDelivered(t *testing.T) {
	t.Parallel()
	h := http.Header{"X-Topic": {"t"}, "X-Kafka-Partition": {"0"}, "X-Kafka-Offset": {"0"}}
	require.Equal(t, &kafkaclient.Place{Topic: "t"}, deadletter.Delivered(h))
	h = http.Header{"X-Topic": {"t"}, "X-Kafka-Partition": {"2147483647"}, "X-Kafka-Offset": {"9223372036854775807"}}
	require.Equal(t, &kafkaclient.Place{Topic: "t", Partition: math.MaxInt32, Offset: math.MaxInt64}, deadletter.Delivered(h))
}

func TestDeliveredNeedsTheWholePlace(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.Header{
		"nothing": {}, "no offset": {"X-Topic": {"t"}, "X-Kafka-Partition": {"1"}}, "a negative offset": {"X-Topic": {"t"}, "X-Kafka-Partition": {"1"}, "X-Kafka-Offset": {"-1"}},
		"a negative partition":   {"X-Topic": {"t"}, "X-Kafka-Partition": {"-1"}, "X-Kafka-Offset": {"1"}},
		"a partition of 33 bits": {"X-Topic": {"t"}, "X-Kafka-Partition": {"2147483648"}, "X-Kafka-Offset": {"1"}},
		"names of both":          {"Ce-Kafkatopic": {"t"}, "X-Kafka-Partition": {"1"}, "X-Kafka-Offset": {"1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Nil(t, deadletter.Delivered(h))
		})
	}
}

package deadletter_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

// FuzzRecord writes the letter of any delivery, and reads it back: the value byte for byte, the failure, and the place that the delivery
// shows.
func FuzzRecord(f *testing.F) {
	f.Add("1", "AP8=", "9", "price must be greater than 0", []byte("x"))
	f.Add("\r\nX: y", "%", "-1", strings.Repeat("ü", 2000), []byte{})
	f.Fuzz(func(t *testing.T, id, key, offset, detail string, body []byte) {
		h := http.Header{
			"Ce-Type": {"dev.knative.kafka.event"}, "Ce-Id": {id}, "Ce-Key": {key}, "Ce-Kafkatopic": {"t"}, "Ce-Knativekafkapartition": {"3"},
			"Ce-Knativekafkaoffset": {offset},
		}
		r := deadletter.Letter{Header: h, Body: body, Err: fault.New(fault.Invalid, fault.CodeInvalidPrice, "%s", detail), Function: "f"}.Record("dlq")
		require.Equal(t, string(body), string(r.Value))
		require.Equal(t, id, deadletter.Text(r.Headers, "ce_id"))
		failure := deadletter.FailureOf(r.Headers)
		require.Equal(t, fault.CodeInvalidPrice, failure.Code)
		require.True(t, strings.HasPrefix(detail, failure.Reason) || strings.ToValidUTF8(detail, "") != detail)
		require.LessOrEqual(t, len(failure.Reason), 2000)
		if at := deadletter.Delivered(h); at != nil {
			require.Equal(t, at, deadletter.Origin(r.Headers))
		}
		plain := deadletter.Letter{Header: h, Body: body, Err: errors.New(detail)}.Record("dlq")
		require.Empty(t, deadletter.FailureOf(plain.Headers).Reason, "the text of an error that is no fault stays in the log")
	})
}

// FuzzHeaders reads any headers of a dead letter, of any family.
func FuzzHeaders(f *testing.F) {
	f.Add("dlq-topic", []byte("t"), "dlq-partition", []byte("0"), "dlq-offset", []byte("5"))
	f.Add("kafka_dlt-original-topic", []byte("t"), "kafka_dlt-original-partition", []byte{0, 0, 0, 1}, "kafka_dlt-original-offset", []byte{0xff, 0, 0, 0, 0, 0, 0, 1})
	f.Add("ce_knativeerrorcode", []byte("422"), "ce_knativeerrordata", []byte("eyJjb2RlIjoieCJ9"), "ce_knativeerrordest", []byte("http://x"))
	f.Add("Ce_knAtiveerrorCode", bytes.Repeat([]byte("0"), 64), "0", []byte("0"), "0", []byte("0"))
	f.Add("dlq-failed-at", []byte("9999-12-31T23:59:59-23:59"), "dlq-value-bytes", []byte("-1"), "dlq-value-sha256", []byte("zz"))
	f.Fuzz(func(t *testing.T, a string, aValue []byte, b string, bValue []byte, c string, cValue []byte) {
		headers := []kafkaclient.Header{{Name: a, Value: aValue}, {Name: b, Value: bValue}, {Name: c, Value: cValue}}
		if at := deadletter.Origin(headers); at != nil {
			require.NotEmpty(t, at.Topic)
			require.True(t, at.Partition >= 0 && at.Offset >= 0)
		}
		failure := deadletter.FailureOf(headers)
		require.NotEmpty(t, failure.Code)
		require.LessOrEqual(t, len(failure.Code)+len(failure.Reason)+len(failure.Function), 100+2*(len(aValue)+len(bValue)+len(cValue)),
			"a status is in the code and in the reason")
		if cut := deadletter.CutOf(headers); cut != nil {
			require.GreaterOrEqual(t, cut.Bytes, int64(0))
		}
		_, err := json.Marshal(failure.Reason)
		require.NoError(t, err)
	})
}

package kafkaclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
	r := kafkaclient.DeadLetter{
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
	r := kafkaclient.DeadLetter{Header: h, Err: errors.New("boom")}.Record("dlq")
	require.Equal(t, []byte{1, 2}, r.Key)
	require.NotNil(t, r.Value, "an empty body is an empty value")
	n := names(r)
	require.Equal(t, "prices", n["dlq-topic"])
	require.NotContains(t, n, "dlq-offset")
	require.Equal(t, "internal", n["dlq-code"])
	require.NotContains(t, n, "dlq-reason", "the text of an unknown error is not shown")
}

func FuzzDeadLetterRecord(f *testing.F) {
	f.Add("1", "AP8=", "9", []byte("x"))
	f.Fuzz(func(t *testing.T, id, key, offset string, body []byte) {
		h := http.Header{"Ce-Type": {"dev.knative.kafka.event"}, "Ce-Id": {id}, "Ce-Key": {key}, "Ce-Knativekafkaoffset": {offset}}
		r := kafkaclient.DeadLetter{Header: h, Body: body, Err: errors.New("x")}.Record("dlq")
		require.Equal(t, string(body), string(r.Value))
	})
}

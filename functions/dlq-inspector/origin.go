package main

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// text gives the last value of a header, made valid UTF-8.
func text(headers []kafkaclient.Header, name string) string {
	for i := len(headers) - 1; i >= 0; i-- {
		if strings.EqualFold(headers[i].Name, name) {
			return clean(string(headers[i].Value))
		}
	}
	return ""
}

// number reads a header as decimal text, or as Spring writes it: a big-endian int of 4 or 8 bytes.
func number(headers []kafkaclient.Header, name string) (int64, bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if !strings.EqualFold(headers[i].Name, name) {
			continue
		}
		v := headers[i].Value
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n, true
		}
		switch len(v) {
		case 4:
			return int64(int32(binary.BigEndian.Uint32(v))), true //nolint:gosec // the sign bit is meant
		case 8:
			return int64(binary.BigEndian.Uint64(v)), true //nolint:gosec // the sign bit is meant
		}
	}
	return 0, false
}

// families are the names under which dead letters carry their origin and reason: ours, Kafka Connect's, Kafka Streams'
// (KIP-1034) and Spring Kafka's. Knative's have no origin of their own: there it is in the extensions.
var families = []struct{ topic, partition, offset, code, reason, function string }{
	{"dlq-topic", "dlq-partition", "dlq-offset", "dlq-code", "dlq-reason", "dlq-function"},
	{"__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset", "__connect.errors.exception.class.name", "__connect.errors.exception.message", "__connect.errors.connector.name"},
	{"__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset", "__streams.errors.exception", "__streams.errors.message", ""},
	{"kafka_dlt-original-topic", "kafka_dlt-original-partition", "kafka_dlt-original-offset", "kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "kafka_dlt-original-consumer-group"},
	{"ce_kafkatopic", "ce_knativekafkapartition", "ce_knativekafkaoffset", "", "", ""},
}

// originOf gives the place of the record that a dead letter record was made of.
func originOf(headers []kafkaclient.Header) *place {
	for _, f := range families {
		topic := text(headers, f.topic)
		partition, ok1 := number(headers, f.partition)
		offset, ok2 := number(headers, f.offset)
		if topic != "" && ok1 && ok2 && partition >= 0 && partition < 1<<31 && offset >= 0 {
			return &place{topic, int32(partition), offset}
		}
	}
	return nil
}

// why gives the failure that a dead letter record tells of; at is used where it does not say when.
func why(headers []kafkaclient.Header, at time.Time) failure {
	f, told := failure{Code: "unknown", FailedAt: at}, false
	for _, family := range families {
		code, reason := text(headers, family.code), text(headers, family.reason)
		if told = code != "" || reason != ""; told {
			f.Code, f.Reason, f.Function = cmp.Or(code, f.Code), reason, text(headers, family.function)
			break
		}
	}
	if !told {
		knativeFailure(headers, &f)
	}
	if t, err := time.Parse(time.RFC3339Nano, text(headers, "dlq-failed-at")); err == nil && plausible(t) {
		f.FailedAt = t
	}
	f.Code, f.Reason, f.Function = truncate(f.Code, 200), truncate(f.Reason, 2000), truncate(f.Function, 200)
	return f
}

// knativeFailure reads knativeerrordest, -code and -data. Data is base64 of the answer's first bytes (raw in some
// versions); where those are one of our problem documents, its code and detail are the failure's.
func knativeFailure(headers []kafkaclient.Header, f *failure) {
	destination, code := text(headers, "ce_knativeerrordest"), text(headers, "ce_knativeerrorcode")
	if destination == "" && code == "" {
		return
	}
	f.Function = destination
	f.Code, f.Reason = priceevent.CodeDeliveryFailed, "no answer from the function"
	if code != "" {
		f.Code, f.Reason = "http_"+code, "the function answered with status "+code
	}
	data := text(headers, "ce_knativeerrordata")
	if raw, err := base64.StdEncoding.DecodeString(data); err == nil {
		data = clean(string(raw))
	}
	var problem struct{ Code, Detail string }
	if json.Unmarshal([]byte(data), &problem) == nil && problem.Code != "" {
		f.Code, f.Reason = problem.Code, problem.Detail
	} else if data != "" {
		f.Reason += ": " + data
	}
}

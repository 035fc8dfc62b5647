// Package deadletter is the format of dead letters on a topic: [Writer] writes a refused event as a record, and the functions of
// read.go read what the record says of the event's origin and of its failure, in our format and in those of other systems.
package deadletter

import (
	"net/http"
	"strconv"
	"time"

	"marketdata/shared/kafkaclient"
)

// Failure is one refusal of an event.
type Failure struct {
	Code     string // "unknown" if the record does not say
	Reason   string
	Function string    // that refused the event
	FailedAt time.Time // zero if the record does not say
}

// family is a set of header names under which dead letters carry their origin and their failure. Empty: the family has no such name.
type family struct{ topic, partition, offset, code, reason, function string }

// Header names of our own. A dead letter is written with those of ours and of connect, and may be read with any of families.
var (
	ours    = family{"dlq-topic", "dlq-partition", "dlq-offset", "dlq-code", "dlq-reason", "dlq-function"}
	connect = family{ // Kafka Connect's DeadLetterQueueReporter; values are UTF-8 strings
		"__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset",
		"__connect.errors.exception.class.name", "__connect.errors.exception.message", "__connect.errors.connector.name",
	}
	streams = family{ // Kafka Streams, KIP-1034
		"__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset", "__streams.errors.exception", "__streams.errors.message", "",
	}
	spring = family{ // Spring Kafka's DeadLetterPublishingRecoverer; numbers are big-endian
		"kafka_dlt-original-topic", "kafka_dlt-original-partition", "kafka_dlt-original-offset",
		"kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "kafka_dlt-original-consumer-group",
	}
	knative = family{topic: "ce_kafkatopic", partition: "ce_knativekafkapartition", offset: "ce_knativekafkaoffset"} // see also knativeFailure

	families = []family{ours, connect, streams, spring, knative}
)

const (
	failedAt   = "dlq-failed-at"   // RFC 3339
	headersCut = "dlq-headers-cut" // how many headers were cut or left out
	// Length and SHA-256 (hex) of a whole value or key; only present if the record has its beginning.
	valueBytes, valueSHA256 = "dlq-value-bytes", "dlq-value-sha256"
	keyBytes, keySHA256     = "dlq-key-bytes", "dlq-key-sha256"
)

// delivered are the HTTP headers that carry the place of a delivered record: a KafkaSource's (kafkatopic is set by ceOverrides in our
// manifests), and those of OpenFaaS' Kafka connector.
var delivered = []family{
	{topic: "Ce-Kafkatopic", partition: "Ce-Knativekafkapartition", offset: "Ce-Knativekafkaoffset"},
	{topic: "X-Topic", partition: "X-Kafka-Partition", offset: "X-Kafka-Offset"},
}

// Delivered returns the place of the record that a delivery was made of, nil if the delivery does not show it.
func Delivered(h http.Header) *kafkaclient.Place {
	for _, names := range delivered {
		topic := h.Get(names.topic)
		partition, err1 := strconv.ParseInt(h.Get(names.partition), 10, 32)
		offset, err2 := strconv.ParseInt(h.Get(names.offset), 10, 64)
		if topic != "" && err1 == nil && err2 == nil && partition >= 0 && offset >= 0 {
			return &kafkaclient.Place{Topic: topic, Partition: int32(partition), Offset: offset}
		}
	}
	return nil
}

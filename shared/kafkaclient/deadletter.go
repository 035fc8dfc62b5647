package kafkaclient

import (
	"context"
	"encoding/base64"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
)

// DeadLetter is an event that can never succeed, as it was delivered.
type DeadLetter struct {
	Header   http.Header // the delivery's headers: ce-*, content-type, X-Kafka-*
	Body     []byte      // the delivery's body, byte for byte
	Err      error       // why; its fault code and detail are written
	Function string      // who refused it
	FailedAt time.Time
}

// Record is the record of a dead letter on the topic. It survives any bytes: the value and the header values are opaque.
// Headers: the CloudEvent attributes as ce_*, our dlq-* names, and the names of Kafka Connect
// (DeadLetterQueueReporter), whose values are UTF-8 strings, so that any tool understands them.
func (d DeadLetter) Record(topic string) Record {
	r := Record{Topic: topic, Value: d.Body, Key: d.key()}
	if r.Value == nil {
		r.Value = []byte{}
	}
	add := func(name, value string) {
		if value != "" {
			r.Headers = append(r.Headers, Header{name, []byte(value)})
		}
	}
	if ct := d.Header.Get("Content-Type"); ct != "" {
		add("content-type", ct)
	}
	names := make([]string, 0, len(d.Header))
	for name := range d.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		lower := strings.ToLower(name)
		if attribute, ok := strings.CutPrefix(lower, "ce-"); ok {
			add("ce_"+attribute, d.Header.Get(name))
		} else if strings.HasPrefix(lower, "x-kafka-") || lower == "x-topic" || lower == "traceparent" {
			add(lower, d.Header.Get(name))
		}
	}
	code, detail := fault.CodeOf(d.Err), ""
	if f, ok := fault.As(d.Err); ok {
		detail = f.Detail
	}
	from := d.Origin()
	add("dlq-reason", detail)
	add("dlq-code", code)
	add("dlq-topic", from.Topic)
	add("dlq-partition", from.Partition)
	add("dlq-offset", from.Offset)
	add("dlq-failed-at", d.FailedAt.UTC().Format(time.RFC3339Nano))
	add("dlq-function", d.Function)
	add("__connect.errors.topic", from.Topic)
	add("__connect.errors.partition", from.Partition)
	add("__connect.errors.offset", from.Offset)
	add("__connect.errors.exception.class.name", code)
	add("__connect.errors.exception.message", detail)
	return r
}

// Origin is the place of the original record as far as the delivery shows it; parts are empty where it does not.
type Origin struct{ Topic, Partition, Offset string }

// Origin reads KafkaSource's extensions or the OpenFaaS connector's headers (facts: KafkaSource adds
// knativekafkapartition and knativekafkaoffset; kafkatopic is our ceOverrides).
func (d DeadLetter) Origin() Origin {
	pick := func(names ...string) string {
		for _, n := range names {
			if v := d.Header.Get(n); v != "" {
				return v
			}
		}
		return ""
	}
	o := Origin{
		pick("Ce-Kafkatopic", "X-Topic"),
		pick("Ce-Knativekafkapartition", "X-Kafka-Partition"),
		pick("Ce-Knativekafkaoffset", "X-Kafka-Offset"),
	}
	for _, n := range []string{o.Partition, o.Offset} {
		if _, err := strconv.ParseInt(n, 10, 64); err != nil && n != "" {
			return Origin{Topic: o.Topic}
		}
	}
	return o
}

// key gives the record key as the delivery shows it. A plain record's key comes base64-coded, since our sources are of
// key-type byte-array; an event's partition key is text.
func (d DeadLetter) key() []byte {
	switch {
	case d.Header.Get("Ce-Type") == "dev.knative.kafka.event" && d.Header.Get("Ce-Key") != "":
		if raw, err := base64.StdEncoding.DecodeString(d.Header.Get("Ce-Key")); err == nil {
			return raw
		}
		return []byte(d.Header.Get("Ce-Key"))
	case d.Header.Get("X-Kafka-Key-Enc") == "b64":
		if raw, err := base64.StdEncoding.DecodeString(d.Header.Get("X-Kafka-Key")); err == nil {
			return raw
		}
	}
	for _, name := range []string{"Ce-Partitionkey", "X-Kafka-Key"} {
		if v := d.Header.Get(name); v != "" {
			return []byte(v)
		}
	}
	return nil
}

// DeadLetters writes dead letters to one topic.
type DeadLetters struct {
	Producer *Producer
	Topic    string
}

// Write produces d and returns once the broker has acknowledged it. Errors as for [Producer.Produce].
func (w DeadLetters) Write(ctx context.Context, d DeadLetter) error {
	return w.Producer.Produce(ctx, d.Record(w.Topic))
}

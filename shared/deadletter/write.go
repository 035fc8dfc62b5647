package deadletter

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

// Letter is an event that can never succeed, as it was delivered.
type Letter struct {
	Header   http.Header // of the delivery: ce-*, content-type, X-Kafka-*
	Body     []byte      // of the delivery, byte for byte; only its beginning if Size is greater
	Size     int64       // of the whole body; 0: Body is whole
	SHA256   []byte      // of the whole body; nil: Body is whole
	Err      error       // why it was refused; its fault code and detail are written
	Function string      // that refused it
	FailedAt time.Time
}

// Record returns the record of a dead letter on a topic, whole. Value and header values are opaque bytes. Headers are the CloudEvent
// attributes as ce_*, our dlq-* names, and those of Kafka Connect, which other tools understand.
func (d Letter) Record(topic string) kafkaclient.Record { return d.record(topic, whole) }

func (d Letter) record(topic string, f form) kafkaclient.Record {
	r := kafkaclient.Record{Topic: topic}
	var cutHeaders int
	r.Headers, cutHeaders = f.headers(d.delivered())
	add := func(name, value string) {
		if value != "" {
			r.Headers = append(r.Headers, kafkaclient.Header{Name: name, Value: []byte(value)})
		}
	}
	r.Key = d.key()
	if len(r.Key) > f.key {
		sum := sha256.Sum256(r.Key)
		add(keyBytes, strconv.Itoa(len(r.Key)))
		add(keySHA256, hex.EncodeToString(sum[:]))
		r.Key = r.Key[:f.key]
	}
	r.Value = append([]byte{}, d.Body[:min(len(d.Body), f.value)]...)
	if size := max(d.Size, int64(len(d.Body))); size > int64(len(r.Value)) {
		sum := d.SHA256
		if sum == nil {
			of := sha256.Sum256(d.Body)
			sum = of[:]
		}
		r.Headers = append(r.Headers, NewCut(size, sum).Headers()...)
	}
	if cutHeaders > 0 {
		add(headersCut, strconv.Itoa(cutHeaders))
	}
	code, detail := fault.CodeOf(d.Err), ""
	if known, ok := fault.As(d.Err); ok {
		detail = cutText(known.Detail, maxReason)
	}
	topicOf, partition, offset := d.place()
	for _, names := range []family{ours, connect} {
		add(names.code, code)
		add(names.reason, detail)
		add(names.topic, topicOf)
		add(names.partition, partition)
		add(names.offset, offset)
	}
	add(failedAt, d.FailedAt.UTC().Format(time.RFC3339Nano))
	add(ours.function, d.Function)
	return r
}

// place returns what the delivery shows of the record's place: all of it, the topic alone, or nothing.
func (d Letter) place() (topic, partition, offset string) {
	if p := Delivered(d.Header); p != nil {
		return cutText(p.Topic, maxTopic), strconv.Itoa(int(p.Partition)), strconv.FormatInt(p.Offset, 10)
	}
	for _, names := range delivered {
		if topic := d.Header.Get(names.topic); topic != "" {
			return cutText(topic, maxTopic), "", ""
		}
	}
	return "", "", ""
}

// delivered returns the headers of the delivery that belong to the event, sorted by name. Attributes and content type have the names of
// the record's headers, whether a KafkaSource sent them as ce-* or OpenFaaS' connector as X-Kafka-Ce_*.
func (d Letter) delivered() []kafkaclient.Header {
	const own = 16 // what record adds
	out := make([]kafkaclient.Header, 0, len(d.Header)+own)
	for name, values := range d.Header {
		lower := strings.ToLower(name)
		ofRecord, isRecord := strings.CutPrefix(lower, "x-kafka-")
		switch attribute, isAttribute := strings.CutPrefix(lower, "ce-"); {
		case isAttribute:
			lower = "ce_" + attribute
		case isRecord && (ofRecord == "content-type" || strings.HasPrefix(ofRecord, "ce_")):
			lower = ofRecord
		case lower == "content-type" && d.Header["X-Kafka-Content-Type"] != nil:
			continue // the connector's own, whatever the record has
		case !isRecord && !slices.Contains(eventHeaders, lower):
			continue
		}
		for _, v := range values {
			out = append(out, kafkaclient.Header{Name: lower, Value: []byte(v)})
		}
	}
	slices.SortStableFunc(out, func(a, b kafkaclient.Header) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// eventHeaders are headers of a delivery that belong to the event, besides ce-* and x-kafka-*.
var eventHeaders = []string{"content-type", "content-encoding", "x-topic", "traceparent"}

// key returns the record key as the delivery shows it. The key of a plain record comes in base64, because our sources have the key
// type byte-array; the partition key of an event is text.
func (d Letter) key() []byte {
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

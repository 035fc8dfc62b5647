package kafkaclient

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
)

// DeadLetter is an event that can never succeed, as it was delivered.
type DeadLetter struct {
	Header   http.Header // the delivery's headers: ce-*, content-type, X-Kafka-*
	Body     []byte      // the delivery's body, byte for byte; its beginning if Size is greater
	Size     int64       // of the whole body; 0: Body is whole
	SHA256   []byte      // of the whole body; nil: Body is whole
	Err      error       // why; its fault code and detail are written
	Function string      // who refused it
	FailedAt time.Time
}

// Record is the record of a dead letter on the topic, whole. It survives any bytes: the value and the header values are
// opaque. Headers: the CloudEvent attributes as ce_*, our dlq-* names, and the names of Kafka Connect
// (DeadLetterQueueReporter), whose values are UTF-8 strings, so that any tool understands them.
func (d DeadLetter) Record(topic string) Record { return d.record(topic, whole) }

func (d DeadLetter) record(topic string, f form) Record {
	r := Record{Topic: topic}
	delivered, cutHeaders := f.headers(d.delivered())
	r.Headers = append(r.Headers, delivered...)
	add := func(name, value string) {
		if value != "" {
			r.Headers = append(r.Headers, Header{name, []byte(value)})
		}
	}
	addSum := func(what string, size int64, sum []byte) {
		add("dlq-"+what+"-bytes", strconv.FormatInt(size, 10))
		add("dlq-"+what+"-sha256", hex.EncodeToString(sum))
	}
	r.Key = d.key()
	if len(r.Key) > f.key {
		sum := sha256.Sum256(r.Key)
		addSum("key", int64(len(r.Key)), sum[:])
		r.Key = r.Key[:f.key]
	}
	r.Value = append([]byte{}, d.Body[:min(len(d.Body), f.value)]...)
	if size := max(d.Size, int64(len(d.Body))); size > int64(len(r.Value)) {
		sum := d.SHA256
		if sum == nil {
			of := sha256.Sum256(d.Body)
			sum = of[:]
		}
		addSum("value", size, sum)
	}
	if cutHeaders > 0 {
		add("dlq-headers-cut", strconv.Itoa(cutHeaders))
	}
	code, detail := fault.CodeOf(d.Err), ""
	if known, ok := fault.As(d.Err); ok {
		detail = cutText(known.Detail, maxReason)
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

// delivered gives the headers of the delivery that belong to the event, sorted by name.
func (d DeadLetter) delivered() []Header {
	var out []Header
	for name, values := range d.Header {
		lower := strings.ToLower(name)
		if attribute, ok := strings.CutPrefix(lower, "ce-"); ok {
			lower = "ce_" + attribute
		} else if !strings.HasPrefix(lower, "x-kafka-") && !slices.Contains(eventHeaders, lower) {
			continue
		}
		for _, v := range values {
			out = append(out, Header{lower, []byte(v)})
		}
	}
	slices.SortStableFunc(out, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// eventHeaders are headers of a delivery that say something of its event, beside ce-* and x-kafka-*.
var eventHeaders = []string{"content-type", "content-encoding", "x-topic", "traceparent"}

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
		cutText(pick("Ce-Kafkatopic", "X-Topic"), maxTopic),
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

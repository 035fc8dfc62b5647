package kafkasource

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

// Record is a Kafka record as the consumer sees it.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte // nil: null
	Value     []byte // nil: null
	Headers   []Header
	Timestamp time.Time // CreateTime or LogAppendTime
}

// Header is one Kafka header.
type Header struct {
	Name  string
	Value []byte
}

// Event is a CloudEvent to deliver.
type Event struct {
	Attributes  map[string]string // id, source, type, specversion, subject, time, dataschema and extensions
	ContentType string            // empty: no Content-Type header
	Data        []byte            // nil: the request has no body
	Traceparent string            // of the record's own header; empty if it has none
	Decimals    bool              // Data was encoded again, and has numbers that are not integers: see structured
}

// FromRecord converts a record to an event as a KafkaSource does: to the CloudEvent that it is, or to one of type
// dev.knative.kafka.event.
func FromRecord(r Record, s Spec) Event {
	ev, ok := cloudEvent(r)
	if !ok {
		ev = plainRecord(r, s)
	}
	if ev.metadata() > maxMetadata {
		ev.Attributes = map[string]string{}
	}
	ev.Traceparent = lastHeader(r.Headers, "traceparent")
	ev.Attributes["knativekafkapartition"] = strconv.FormatInt(int64(r.Partition), 10)
	ev.Attributes["knativekafkaoffset"] = strconv.FormatInt(r.Offset, 10)
	maps.Copy(ev.Attributes, s.Extensions) // spec.ceOverrides takes precedence
	return ev
}

// maxMetadata bounds the attributes of an event, in bytes. Functions accept 16 MiB of HTTP headers, and a cluster loses a record with
// more: neither the function nor the dead letter sink can be told about it. Here such a record is delivered without its attributes, as no
// CloudEvent, which makes it a dead letter.
const maxMetadata = 15 << 20

// metadata returns the size of the attributes as HTTP headers, in bytes.
func (ev Event) metadata() int {
	const perHeader = len("ce-: \r\n")
	size := 0
	for name, value := range ev.Attributes {
		size += perHeader + len(name) + len(value)
	}
	return size
}

// plainRecord is InvalidCloudEventInterceptor: it makes an event of a record that is not a CloudEvent.
func plainRecord(r Record, s Spec) Event {
	place := "partition:" + strconv.FormatInt(int64(r.Partition), 10)
	offset := strconv.FormatInt(r.Offset, 10)
	ev := Event{Attributes: map[string]string{
		"specversion": "1.0",
		"id":          place + "/offset:" + offset,
		"source":      "/apis/v1/namespaces/" + s.Namespace + "/kafkasources/" + s.Name + "#" + r.Topic,
		"type":        "dev.knative.kafka.event",
		"subject":     place + "#" + offset,
		"time":        javaTime(r.Timestamp.UTC()),
	}, Data: r.Value}
	if key, ok := keyText(r.Key, s.KeyType); ok {
		ev.Attributes["key"], ev.Attributes["partitionkey"] = key, key
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			ev.ContentType = strings.ToLower(utf8Text(h.Value))
			continue
		}
		ev.Attributes["kafkaheader"+alphanumeric(h.Name)] = utf8Text(h.Value)
	}
	return ev
}

func alphanumeric(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, strings.ToLower(name))
}

// keyText is KeyDeserializer: it converts a key to text by the label kafkasources.sources.knative.dev/key-type. A null or empty key
// has no text.
func keyText(key []byte, keyType string) (string, bool) {
	if len(key) == 0 {
		return "", false
	}
	switch {
	case keyType == "byte-array":
		return base64.StdEncoding.EncodeToString(key), true
	case keyType == "int" && len(key) == 4:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(key)))), true //nolint:gosec // the key is a signed integer
	case keyType == "float" && len(key) == 4:
		return javaFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(key))), 32), true
	case keyType == "float" && len(key) == 8:
		return javaFloat(math.Float64frombits(binary.BigEndian.Uint64(key)), 64), true
	}
	return utf8Text(key), true
}

func lastHeader(headers []Header, name string) string {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Name == name {
			return utf8Text(headers[i].Value)
		}
	}
	return ""
}

package ingress

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
)

// fromConnector reports whether a request is from one of OpenFaaS' connectors.
func fromConnector(h http.Header) bool { return h.Get("X-Topic") != "" }

// cronTopic is the topic of the cron connector's ticks.
const cronTopic = "cron-function"

func isCron(header http.Header) bool {
	return header.Get("X-Topic") == cronTopic && header.Get("X-Kafka-Offset") == ""
}

// cronEvent is the tick that a PingSource would send.
func cronEvent() event.Event {
	e := event.New()
	e.SetType(tickType)
	e.SetSource("/openfaas/cron-connector")
	e.SetID(uuid.NewString())
	return e
}

// connectorEvent turns a request of the Kafka connector into the event that a KafkaSource would make of the same record: the record
// itself if it is a CloudEvent, otherwise an event of recordType, and the record's place as extensions. The connector sends each header
// of the record as X-Kafka-<name>; HTTP does not keep the case of the name.
func connectorEvent(header http.Header, body []byte) event.Event {
	a, data, ok := recordEvent(header, body)
	if !ok {
		a, data = plainRecord(header), body
	}
	for extension, name := range map[string]string{
		"kafkatopic": "X-Topic", "knativekafkapartition": "X-Kafka-Partition", "knativekafkaoffset": "X-Kafka-Offset",
	} {
		if value := header.Get(name); value != "" {
			a.set(extension, value)
		}
	}
	return a.event(data)
}

// recordEvent reads a record that is a CloudEvent itself. ok is false if it is none, or one that a KafkaSource does not accept: then
// it counts as a plain record there.
func recordEvent(header http.Header, body []byte) (a attributes, data []byte, ok bool) {
	contentType := last(header["X-Kafka-Content-Type"])
	if isStructured(contentType) {
		if a, data, err := structured(body); err == nil {
			if a.contentType == "" && len(data) > 0 {
				a.contentType = "application/json" // which a KafkaSource adds
			}
			return a, data, true
		}
	}
	if strings.HasPrefix(contentType, "application/cloudevents") {
		return a, nil, false
	}
	a.contentType = contentType
	for name, values := range header {
		if attribute, ok := strings.CutPrefix(name, "X-Kafka-Ce_"); ok && attribute != "" {
			attribute, value := strings.ToLower(attribute), last(values)
			if attribute == "datacontenttype" {
				a.contentType = value
				continue
			}
			if !event.IsExtensionNameValid(attribute) || attribute == "time" && !isTime(value) {
				return a, nil, false
			}
			a.set(attribute, value)
		}
	}
	return a, body, a.check() == nil
}

func isTime(text string) bool {
	_, err := time.Parse(time.RFC3339Nano, text)
	return text == "" || err == nil
}

// plainRecord returns the attributes of a record that is not a CloudEvent. The key is in base64, because the key type of our
// KafkaSources is byte-array.
func plainRecord(header http.Header) attributes {
	place, offset := "partition:"+header.Get("X-Kafka-Partition"), header.Get("X-Kafka-Offset")
	a := attributes{
		version: event.CloudEventsVersionV1, eventType: recordType, source: "/openfaas/kafka-connector#" + header.Get("X-Topic"),
		id: place + "/offset:" + offset, subject: place + "#" + offset,
	}
	// Sorted: two headers may become one attribute, which must not depend on chance.
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := last(header[name])
		name, isRecord := strings.CutPrefix(name, "X-Kafka-")
		switch {
		case !isRecord || name == "Partition" || name == "Offset" || name == "Key-Enc":
		case name == "Content-Type":
			a.contentType = strings.ToLower(value)
		case name != "Key":
			a.set("kafkaheader"+alphanumeric(name), value)
		case value != "":
			if header.Get("X-Kafka-Key-Enc") != "b64" {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			a.set("key", value)
			a.set("partitionkey", value)
		}
	}
	return a
}

func alphanumeric(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, strings.ToLower(name))
}

// last returns the last value of a header: of several Kafka headers with one name, the last one counts.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

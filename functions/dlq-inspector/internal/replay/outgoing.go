package replay

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/ingress"
)

// Limits of the metadata in a request. Proxies commonly accept 60 KiB of headers.
const (
	maxMetadataBytes = 40 << 10 // of all attributes together
	maxTypeBytes     = 1 << 10
	maxTopicBytes    = 249 // Kafka's limit
)

// outgoing returns headers and body of the request that delivers a letter. A letter that was not a CloudEvent is delivered as a plain
// record, as a KafkaSource would do it; a CloudEvent in structured mode is delivered as it is. Metadata never prevents a delivery:
// attributes that HTTP cannot carry, or for which the receiver would refuse the request, are encoded or left out. by is the replay's
// edit; if it is nil, the request has the letter's own value, and the event's own correction if it had one.
func outgoing(l letter.Stored, token uuid.UUID, by *edit) (http.Header, []byte) {
	h := http.Header{"Ce-Replayid": {token.String()}, "Ce-Replaycount": {strconv.Itoa(l.ReplayCount + 1)}}
	attributes, value, contentType := l.Attributes, l.Value, l.ContentType
	if by != nil {
		value, contentType = by.value, "application/json"
		if by.attributes != nil {
			attributes = by.attributes
		}
	}
	if _, _, err := mime.ParseMediaType(contentType); err == nil && headerValue(contentType) == contentType {
		h.Set("Content-Type", contentType)
	}
	if by == nil && isEnvelope(contentType, value) {
		return h, value
	}
	setAttributes(h, l, attributes)
	switch {
	case by != nil:
		h.Set("Ce-Correction", strconv.Itoa(l.Correction))
	case attributes["correction"] != "" && len(attributes["correction"]) <= maxTypeBytes:
		h.Set("Ce-Correction", headerValue(attributes["correction"]))
	}
	return h, value
}

// isEnvelope reports a CloudEvent in structured mode. The content type alone does not make it one: a KafkaSource delivers a record of that
// type that is no CloudEvent as a plain record.
func isEnvelope(contentType string, value []byte) bool {
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "application/cloudevents") {
		return false
	}
	_, err := ingress.Decode(http.Header{"Content-Type": {contentType}}, value)
	return err == nil
}

// notCarried reports an attribute that is set elsewhere, or that describes a delivery instead of the event: with the knativekafka
// extensions, compute-ma would mistake a replay for a delivery from Kafka.
func notCarried(name string) bool {
	switch name {
	case "specversion", "type", "id", "source", "datacontenttype", "data", "correction", "replayid", "replaycount", "kafkatopic":
		return true
	}
	return strings.HasPrefix(name, "knative")
}

func setAttributes(h http.Header, l letter.Stored, attributes map[string]string) {
	room := maxMetadataBytes
	set := func(name, value string) {
		value = headerValue(value)
		if size := len(name) + len(value) + 8; size <= room { // otherwise it is left out
			room -= size
			h.Set("Ce-"+name, value)
		}
	}
	id, source := identity(l)
	if version := attributes["specversion"]; version != "1.0" && version != "0.3" || attributes["type"] == "" {
		set("specversion", "1.0")
		set("type", "dev.knative.kafka.event")
	} else {
		set("specversion", version)
		set("type", letter.Truncate(attributes["type"], maxTypeBytes))
		if attributes["id"] != "" && len(attributes["id"]) <= room/3 {
			id = attributes["id"]
		}
		if usable("source", attributes["source"]) && len(attributes["source"]) <= room/3 {
			source = attributes["source"]
		}
	}
	set("id", id)
	set("source", source)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if !notCarried(name) && usable(name, attributes[name]) {
			set(name, attributes[name])
		}
	}
}

// identity returns id and source as a KafkaSource sets them for a plain record.
func identity(l letter.Stored) (id, source string) {
	if l.Origin == nil || len(l.Origin.Topic) > maxTopicBytes {
		return "letter:" + l.ID.String(), "/dlq-inspector"
	}
	return fmt.Sprintf("partition:%d/offset:%d", l.Origin.Partition, l.Origin.Offset), "/topics/" + url.PathEscape(l.Origin.Topic)
}

// usable reports an attribute that a receiver accepts: names are of lower-case letters and digits and values are not empty (CloudEvents
// specification, section 3.1), and time, source and dataschema have their forms.
func usable(name, value string) bool {
	other := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }
	if name == "" || value == "" || len(name) > maxTypeBytes || strings.ContainsFunc(name, other) {
		return false
	}
	switch name {
	case "time":
		_, err := types.ParseTime(value)
		return err == nil
	case "source":
		u := types.ParseURIRef(headerValue(value))
		return u != nil && u.String() != ""
	case "dataschema":
		u := types.ParseURI(headerValue(value))
		return u != nil && u.Validate()
	}
	return true
}

// headerValue returns text as HTTP can carry it: characters other than printable ASCII, and spaces at its ends, are percent-encoded
// (CloudEvents HTTP binding, section 3.1.3.2).
func headerValue(s string) string {
	trimmed := textproto.TrimString(s)
	plain := func(c byte) bool { return c >= 0x20 && c < 0x7F }
	if len(trimmed) == len(s) && !slices.ContainsFunc([]byte(s), func(c byte) bool { return !plain(c) }) {
		return s
	}
	from := strings.Index(s, trimmed)
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) && i >= from && i < from+len(trimmed) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

package main

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
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/priceevent"
)

// What of a letter's metadata a request can carry. Proxies commonly take 60 KiB of headers.
const (
	maxMetadataBytes = 40 << 10 // of all attributes
	maxTypeBytes     = 1 << 10
)

// edit is a value that an operator wrote in place of a letter's.
type edit struct {
	written    []byte            // as the operator wrote it
	value      []byte            // the event's data
	attributes map[string]string // of the envelope that the operator wrote; nil: the letter's own
}

// readEdit checks a value against the event's schema. It may be the event's data or a whole CloudEvent in JSON, as a letter in
// structured mode has it. Errors are Invalid, with compute-ma's codes.
func readEdit(written []byte, now time.Time) (*edit, error) {
	_, err := priceevent.Decode(written, 0, now)
	if err == nil {
		return &edit{written: written, value: written}, nil
	}
	e, notAnEnvelope := ingress.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, written)
	if notAnEnvelope != nil {
		return nil, err
	}
	if _, err := priceevent.Decode(e.Data(), 0, now); err != nil {
		return nil, err
	}
	attributes := map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "dataschema": e.DataSchema(),
	}
	if !e.Time().IsZero() {
		attributes["time"] = types.FormatTime(e.Time())
	}
	for name, v := range e.Extensions() {
		if text, err := types.Format(v); err == nil {
			attributes[name] = text
		}
	}
	return &edit{written: written, value: e.Data(), attributes: attributes}, nil
}

// outgoing gives headers and body of a letter's delivery. A letter that was no CloudEvent is delivered as the plain record that
// it was, as a KafkaSource would; one in structured mode as it is. Metadata never keeps an event from being delivered: what says
// nothing about the event and cannot be carried by HTTP, or would make the receiver refuse the request, is encoded or left out.
// by is the replay's edit; nil sends the letter's own value, and the event's own correction if it had one.
func outgoing(l stored, token uuid.UUID, by *edit) (http.Header, []byte) {
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
	if by == nil && isStructured(contentType) {
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

func isStructured(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), "application/cloudevents")
}

// notCarried are attributes with a place of their own, or that tell of a delivery rather than of the event: with the knativekafka
// extensions compute-ma would take a replay for a delivery from Kafka.
func notCarried(name string) bool {
	switch name {
	case "specversion", "type", "id", "source", "datacontenttype", "data", "correction", "replayid", "replaycount", "kafkatopic":
		return true
	}
	return strings.HasPrefix(name, "knative")
}

func setAttributes(h http.Header, l stored, attributes map[string]string) {
	room := maxMetadataBytes
	set := func(name, value string) {
		value = headerValue(value)
		if size := len(name) + len(value) + 8; size <= room { // what there is no room for is left out
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
		set("type", truncate(attributes["type"], maxTypeBytes))
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

// identity is what a KafkaSource calls a plain record.
func identity(l stored) (id, source string) {
	if l.Origin == nil || len(l.Origin.Topic) > 249 { // the longest name of a topic
		return "letter:" + l.ID.String(), "/dlq-inspector"
	}
	return fmt.Sprintf("partition:%d/offset:%d", l.Origin.Partition, l.Origin.Offset), "/topics/" + url.PathEscape(l.Origin.Topic)
}

// usable reports an attribute that a receiver takes: the CloudEvents specification, section 3.1 (names of lower-case letters and
// digits, no empty values), and the forms of those that have one.
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

// headerValue writes text so that HTTP carries it: percent-encoded where it is not printable ASCII, and at its ends where it is
// space (the CloudEvents HTTP binding, section 3.1.3.2). What needs no encoding stays as it is.
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

// outcomeText is what an operator may read of an error.
func outcomeText(err error) string {
	if f, ok := fault.As(err); ok {
		return truncate(clean(f.Detail), 2000)
	}
	return "trouble while replaying"
}

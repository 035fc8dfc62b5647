package ingress

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"marketdata/shared/fault"
)

const (
	tickType   = "dev.knative.sources.ping"
	recordType = "dev.knative.kafka.event" // a record that is not a CloudEvent itself
)

// Decode reads a CloudEvent from the header and body of an HTTP request, in binary or structured mode. A raw record of OpenFaaS'
// Kafka connector becomes the event that a KafkaSource makes of it, and a call of OpenFaaS' cron connector becomes that of a
// PingSource.
//
// The Event has id, source, type, subject, data, and its extensions as text. Metadata that do not matter never fail an event: a
// time in the year 58877, a source that is not a URI, or an extension with an invalid name is left out, but stays in the header.
// Errors are Invalid "undecodable": the request is not a CloudEvent, or has no id, source or type.
func Decode(header http.Header, body []byte) (event.Event, error) {
	isBinary := header.Get("Ce-Specversion") != ""
	switch {
	case isBinary || !fromConnector(header):
	case isCron(header):
		return cronEvent(), nil
	default:
		return connectorEvent(header, body), nil
	}
	contentType := header.Get("Content-Type")
	if isStructured(contentType) {
		// A KafkaSource delivers in binary mode with the record's content type, which may be this one. Then the ce-* headers count.
		a, data, err := structured(body)
		if err == nil {
			return a.event(data), nil
		}
		if !isBinary {
			return event.Event{}, err
		}
	}
	a := binary(header, contentType)
	if err := a.check(); err != nil {
		return event.Event{}, err
	}
	return a.event(body), nil
}

// isStructured reports whether contentType is that of a single event in JSON. A batch is not a single event.
func isStructured(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), "application/cloudevents+json")
}

func undecodable(detail string) error {
	return fault.New(fault.Invalid, fault.CodeUndecodable, "%s", detail)
}

// attributes are the parts of an event. They go into the SDK's types directly, because its setters validate again and copy.
type attributes struct {
	version, id, source, eventType, subject, contentType string
	extensions                                           map[string]any // values are strings; nil: none
}

// set sets an attribute by name. Other context attributes and invalid extension names are ignored.
func (a *attributes) set(name, value string) {
	switch name {
	case "specversion":
		a.version = value
	case "id":
		a.id = value
	case "type":
		a.eventType = value
	case "subject":
		a.subject = value
	case "source":
		a.source = value
	default:
		if isContext(name) || !event.IsExtensionNameValid(name) || name != strings.ToLower(name) {
			return
		}
		if a.extensions == nil {
			a.extensions = make(map[string]any, 8)
		}
		a.extensions[name] = value
	}
}

// check reports attributes that are not those of a CloudEvent.
func (a *attributes) check() error {
	switch {
	case a.version != event.CloudEventsVersionV1 && a.version != event.CloudEventsVersionV03:
		return undecodable("the request is not a CloudEvent")
	case strings.TrimSpace(a.id) == "": // binary mode has no white space around it: HTTP drops it
		return undecodable("the CloudEvent has no id")
	case strings.TrimSpace(a.source) == "":
		return undecodable("the CloudEvent has no source")
	case strings.TrimSpace(a.eventType) == "":
		return undecodable("the CloudEvent has no type")
	}
	return nil
}

// event returns the event of attributes that check accepts.
func (a *attributes) event(data []byte) event.Event {
	var source types.URIRef
	if u, err := url.Parse(a.source); err == nil {
		source.URL = *u
	}
	id, eventType, subject, contentType := strings.TrimSpace(a.id), strings.TrimSpace(a.eventType), textOrNil(a.subject), textOrNil(a.contentType)
	e := event.Event{DataEncoded: data}
	if a.version == event.CloudEventsVersionV1 {
		e.Context = &event.EventContextV1{
			ID: id, Source: source, Type: eventType, Subject: subject, DataContentType: contentType, Extensions: a.extensions,
		}
	} else {
		e.Context = &event.EventContextV03{
			ID: id, Source: source, Type: eventType, Subject: subject, DataContentType: contentType, Extensions: a.extensions,
		}
	}
	return e
}

func textOrNil(s string) *string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return &s
}

// binary reads ce-* headers.
func binary(header http.Header, contentType string) attributes {
	a := attributes{contentType: contentType}
	for name, values := range header {
		if attribute, ok := strings.CutPrefix(name, "Ce-"); ok && len(values) > 0 {
			a.set(lower(attribute), values[0])
		}
	}
	return a
}

// lower returns an attribute's header name in lower case, without an allocation for the common ones.
func lower(attribute string) string {
	switch attribute {
	case "Id":
		return "id"
	case "Source":
		return "source"
	case "Type":
		return "type"
	case "Specversion":
		return "specversion"
	case "Subject":
		return "subject"
	case "Time":
		return "time"
	case "Partitionkey":
		return "partitionkey"
	case "Kafkatopic":
		return "kafkatopic"
	case "Knativekafkapartition":
		return "knativekafkapartition"
	case "Knativekafkaoffset":
		return "knativekafkaoffset"
	}
	return strings.ToLower(attribute)
}

// structured reads the attributes and data of a CloudEvent in JSON (CloudEvents JSON format). If a member is repeated, the last one counts.
func structured(body []byte) (a attributes, data []byte, err error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return a, nil, undecodable("the request is not a CloudEvent in JSON")
	}
	for name, value := range members {
		text, ok := scalar(value)
		switch {
		case ok && name == "datacontenttype":
			a.contentType = text
		case ok:
			a.set(name, text)
		case !isContext(name) && string(value) != "null":
			// Not a type that an attribute may have. It is kept as JSON, so that the reader of the extension refuses it. If it were
			// left out, a correction of [1] would count as no correction.
			a.set(name, string(value))
		}
	}
	data, err = structuredData(members["data"], members["data_base64"], a.contentType)
	if err == nil {
		err = a.check()
	}
	return a, data, err
}

// isContext reports whether name is a context attribute or data, not an extension.
func isContext(name string) bool {
	switch name {
	case "id", "source", "specversion", "type", "subject", "time", "dataschema", "schemaurl", "datacontenttype", "datacontentencoding", "data", "data_base64":
		return true
	}
	return false
}

// scalar returns a string, number or boolean as text; digits are unchanged.
func scalar(value json.RawMessage) (string, bool) {
	switch value[0] {
	case '"':
		var text string
		err := json.Unmarshal(value, &text)
		return text, err == nil
	case '{', '[', 'n':
		return "", false
	}
	return string(value), true
}

func structuredData(data, base64Data json.RawMessage, contentType string) ([]byte, error) {
	has := func(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }
	switch {
	case has(data) && has(base64Data):
		return nil, undecodable("the CloudEvent has both data and data_base64")
	case has(base64Data):
		text, _ := scalar(base64Data)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, undecodable("data_base64 of the CloudEvent is not base64")
		}
		return raw, nil
	case !has(data):
		return nil, nil
	}
	if text, ok := scalar(data); ok && data[0] == '"' && !isJSON(contentType) {
		return []byte(text), nil
	}
	return data, nil
}

// isJSON reports whether data of contentType is JSON. Without a content type it is.
func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return contentType == "" || err == nil && (strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json"))
}

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
)

// attributes gives the CloudEvent attributes of a dead letter record's ce_ headers, without those that tell of the
// failure or of the record rather than of the event.
func attributes(headers []kafkaclient.Header) map[string]string {
	out := map[string]string{}
	for _, h := range headers {
		name, isAttribute := strings.CutPrefix(strings.ToLower(h.Name), "ce_")
		switch {
		case !isAttribute, strings.HasPrefix(name, "knative"), name == "kafkatopic":
		default:
			out[clean(name)] = clean(string(h.Value))
		}
	}
	return out
}

// structured is the media type of a CloudEvent whose attributes are in the body.
const structured = "application/cloudevents+json"

// isEnvelope reports whether a value of this content type is a whole CloudEvent.
func isEnvelope(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), structured)
}

// envelope reads the attributes of a CloudEvent in structured mode. ok is false for what is none.
func envelope(value []byte) (attributes map[string]string, ok bool) {
	e, err := ingress.Decode(http.Header{"Content-Type": {structured}}, bytes.TrimPrefix(value, bom))
	if err != nil {
		return nil, false
	}
	attributes = map[string]string{"specversion": e.SpecVersion(), "id": clean(e.ID()), "source": clean(e.Source()), "type": clean(e.Type())}
	if e.Subject() != "" {
		attributes["subject"] = clean(e.Subject())
	}
	for name, v := range e.Extensions() {
		attributes[clean(name)] = clean(fmt.Sprint(v))
	}
	return attributes, true
}

// sameEvent reports whether a record and what was delivered are one event: the same bytes, or a CloudEvent in structured mode, whose
// data a KafkaSource delivers alone, and written anew.
func sameEvent(record kafkaclient.Stored, delivered []byte, id, source string) bool {
	if bytes.Equal(record.Value, delivered) {
		return true
	}
	if !isEnvelope(text(record.Headers, "content-type")) {
		return false
	}
	attributes, ok := envelope(record.Value)
	return ok && attributes["id"] == id && attributes["source"] == source
}

var bom = []byte("\xEF\xBB\xBF") // some editors and tools put it before UTF-8 text

// symbolOf is a best effort: the body's symbol, else the subject or partition key of the event, else the record's key.
func symbolOf(value []byte, attributes map[string]string, key []byte) string {
	candidates := []string{symbolIn(value, 2)}
	if attributes["type"] == "dev.knative.kafka.event" { // a plain record: what its KafkaSource says of it is its key, in base64
		key64, _ := base64.StdEncoding.DecodeString(attributes["key"])
		candidates = append(candidates, keyText(key64))
	} else {
		candidates = append(candidates, attributes["subject"], attributes["partitionkey"])
	}
	for _, candidate := range append(candidates, keyText(key)) {
		if s, err := market.ParseSymbol(candidate); err == nil {
			return string(s)
		}
	}
	return ""
}

// symbolIn finds the member "symbol" of a JSON object, or of the object in its member "payload" (Kafka Connect with schemas) or "data"
// (a CloudEvent in structured mode). What is before a fault of the JSON counts.
func symbolIn(value []byte, depth int) string {
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(value, bom)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || depth == 0 {
		return ""
	}
	inner := ""
	for d.More() {
		name, err := d.Token()
		if err != nil {
			break
		}
		var member json.RawMessage
		if d.Decode(&member) != nil {
			break
		}
		switch name {
		case "symbol":
			var s string
			if json.Unmarshal(member, &s) == nil && s != "" {
				return s
			}
		case "payload", "data":
			inner = symbolIn(member, depth-1)
		}
	}
	return inner
}

// keyText gives a record key as text: as it is, or the JSON string that it is, by itself or as Kafka Connect's payload.
func keyText(key []byte) string {
	var s string
	var connect struct{ Payload string }
	switch {
	case json.Unmarshal(key, &s) == nil && s != "":
		return s
	case json.Unmarshal(key, &connect) == nil && connect.Payload != "":
		return connect.Payload
	}
	return string(key)
}

package letter

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
)

// New returns the letter of a dead letter record.
func New(r kafkaclient.Stored) Letter {
	return Letter{
		Key: r.Key, Value: r.Value, Headers: r.Headers, RecordedAt: r.Timestamp,
		Attributes: attributesOf(r.Headers), ContentType: Truncate(Text(r.Headers, "content-type"), 1000),
	}
}

// Complete adds what follows from the letter's bytes: the attributes of a CloudEvent in structured mode, and the symbol. It drops a
// time that is not plausible.
func (l *Letter) Complete() {
	if l.Attributes["id"] == "" && isEnvelope(l.ContentType) {
		if all, ok := envelope(l.Value); ok {
			l.Attributes = all
		}
	}
	l.Symbol = symbolOf(l.Value, l.Attributes, l.Key)
	if !Plausible(l.RecordedAt) {
		l.RecordedAt = time.Time{}
	}
}

// Correction returns the event's extension of that name, 0 if it is not a number.
func (l *Letter) Correction() int {
	n, err := strconv.ParseInt(l.Attributes["correction"], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// attributesOf returns the CloudEvent attributes among a dead letter record's ce_ headers, without those that describe the failure or
// the record instead of the event.
func attributesOf(headers []kafkaclient.Header) map[string]string {
	out := map[string]string{}
	for _, h := range headers {
		name, isAttribute := strings.CutPrefix(strings.ToLower(h.Name), "ce_")
		switch {
		case !isAttribute, strings.HasPrefix(name, "knative"), name == "kafkatopic":
		default:
			out[Clean(name)] = Clean(string(h.Value))
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

// envelope returns the attributes of a CloudEvent in structured mode. ok is false if the value is not one.
func envelope(value []byte) (attributes map[string]string, ok bool) {
	e, err := ingress.Decode(http.Header{"Content-Type": {structured}}, bytes.TrimPrefix(value, bom))
	if err != nil {
		return nil, false
	}
	attributes = map[string]string{"specversion": e.SpecVersion(), "id": Clean(e.ID()), "source": Clean(e.Source()), "type": Clean(e.Type())}
	if e.Subject() != "" {
		attributes["subject"] = Clean(e.Subject())
	}
	for name, v := range e.Extensions() {
		attributes[Clean(name)] = Clean(fmt.Sprint(v))
	}
	return attributes, true
}

// Data returns the data of the letter's event: of a CloudEvent in structured mode the member that holds it, otherwise the value.
func (l Stored) Data() []byte {
	if isEnvelope(l.ContentType) {
		if e, err := ingress.Decode(http.Header{"Content-Type": {structured}}, bytes.TrimPrefix(l.Value, bom)); err == nil {
			return e.Data()
		}
	}
	return l.Value
}

// SameEvent reports whether a record holds the event that was delivered. It does if the bytes are equal, or if the record is a
// CloudEvent in structured mode with this id and source: a KafkaSource delivers only the data of such an event, and encodes it again.
func SameEvent(r kafkaclient.Stored, delivered []byte, id, source string) bool {
	if bytes.Equal(r.Value, delivered) {
		return true
	}
	if !isEnvelope(Text(r.Headers, "content-type")) {
		return false
	}
	attributes, ok := envelope(r.Value)
	return ok && attributes["id"] == id && attributes["source"] == source
}

var bom = []byte("\xEF\xBB\xBF") // some editors and tools put it before UTF-8 text

// symbolOf returns the first symbol that it finds in the body, the event's subject or partition key, or the record's key; empty if
// there is none.
func symbolOf(value []byte, attributes map[string]string, key []byte) string {
	candidates := []string{symbolIn(value, 2)}
	if attributes["type"] == "dev.knative.kafka.event" { // a plain record: the attribute key is the record's key in base64
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

// symbolIn returns the member "symbol" of a JSON object, or of the object in its member "payload" (Kafka Connect with schemas) or
// "data" (a CloudEvent in structured mode). Members before a syntax error count.
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

// keyText returns a record key as text. A key that is a JSON string, by itself or as Kafka Connect's payload, is decoded.
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

package kafkasource

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// cloudEvent returns the CloudEvent that a record is. ok is false if it is none, or not a valid one: then the data plane takes it for a
// plain record (CloudEventDeserializer). The order of the checks is that of sdk-java's MessageUtils: structured if the content type,
// up to a semicolon, is exactly that of a registered format; binary if there is a ce_specversion.
func cloudEvent(r Record) (ev Event, ok bool) {
	contentType := lastHeader(r.Headers, "content-type")
	format, _, _ := strings.Cut(contentType, ";")
	switch {
	case format == "application/cloudevents+json": // with this case and without a space, unlike the specification
		return structured(r.Value)
	case strings.HasPrefix(contentType, "application/cloudevents"):
		return Event{}, false
	}
	return binaryEvent(r)
}

// set sets an attribute (CloudEventBuilder). It returns false if the attribute makes the whole event invalid.
func (ev *Event) set(name, value string) (ok bool) {
	switch {
	case name == "datacontenttype":
		ev.ContentType = value
		return true
	case name == "datacontentencoding" && ev.Attributes["specversion"] == "0.3": // says how to read the data, and is not passed on
		return true
	case name == "time":
		value, ok = reformatTime(value)
	case name == "source", name == ev.schema():
		ok = isURI(value)
	case name == "subject":
		ok = value != ""
	default:
		ok = alphanumeric(name) == name
	}
	ev.Attributes[name] = value
	return ok
}

// schema returns the name of the attribute with the schema of the data.
func (ev *Event) schema() string {
	if ev.Attributes["specversion"] == "0.3" {
		return "schemaurl"
	}
	return "dataschema"
}

// complete reports whether the event has what every CloudEvent has. An empty id, source or type is accepted: the function gets it.
func (ev *Event) complete() bool {
	for _, name := range []string{"id", "source", "type"} {
		if _, found := ev.Attributes[name]; !found {
			return false
		}
	}
	version := ev.Attributes["specversion"]
	return version == "1.0" || version == "0.3"
}

// binaryEvent maps ce_ headers to attributes. It drops other headers and the record key: only an explicit ce_partitionkey is kept. An
// empty value means no data (KafkaBinaryMessageReaderImpl).
func binaryEvent(r Record) (Event, bool) {
	ev := Event{Attributes: map[string]string{"specversion": lastHeader(r.Headers, "ce_specversion")}}
	for _, h := range r.Headers {
		name, isAttribute := strings.CutPrefix(h.Name, "ce_")
		name = strings.ToLower(name)
		switch {
		case h.Value == nil || isAttribute && (name == "" || name == "specversion"):
			continue
		case h.Name == "content-type":
			name = "datacontenttype"
		case !isAttribute:
			continue
		}
		if !ev.set(name, utf8Text(h.Value)) {
			return Event{}, false
		}
	}
	if len(r.Value) > 0 {
		ev.Data = r.Value
	}
	return ev, ev.complete()
}

// jsonType has the content types whose data is JSON for sdk-java's JsonFormat: application/vnd.x+json is not one of them.
var jsonType = regexp.MustCompile(`^(application|text)/([a-zA-Z]+\+)?json(;.*)?$`)

// structured parses an event in JSON format (sdk-java's json-jackson, CloudEventDeserializer). It is delivered in binary mode, with its
// JSON data encoded again: see encode. So a producer of prices should use binary mode, which keeps the bytes of the data.
func structured(value []byte) (Event, bool) {
	var members map[string]json.RawMessage
	// Jackson takes no invalid UTF-8, and ignores what follows the object.
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&members); err != nil || !utf8.Valid(value) {
		return Event{}, false
	}
	version, _ := jsonText(members["specversion"])
	ev := Event{Attributes: map[string]string{"specversion": version}}
	for name, member := range members {
		if name == "specversion" || name == "data" || name == "data_base64" {
			continue
		}
		text, ok := jsonText(member)
		switch {
		case ok:
		case !ev.isContext(name):
			text, ok = extension(member)
		case string(member) == "null": // as if it were absent
			continue
		}
		if !ok || !ev.set(name, text) {
			return Event{}, false
		}
	}
	return ev, ev.complete() && ev.setData(members)
}

// setData sets the data of a structured event. It returns false if they make the event invalid.
func (ev *Event) setData(members map[string]json.RawMessage) (ok bool) {
	data, encoded := members["data"], members["data_base64"]
	if data != nil && ev.ContentType == "" {
		ev.ContentType = "application/json"
	}
	text, _ := jsonText(members["datacontentencoding"])
	if text == "base64" && ev.Attributes["specversion"] == "0.3" {
		data, encoded = nil, data
	}
	switch {
	case data != nil && encoded != nil:
		return false
	case encoded != nil:
		text, ok = jsonText(encoded)
		raw, err := base64.StdEncoding.DecodeString(text)
		ev.Data = raw
		return ok && err == nil
	case data != nil && jsonType.MatchString(ev.ContentType):
		ev.Data, ev.Decimals = encode(data)
	case data != nil:
		text, ok = jsonText(data)
		ev.Data = []byte(text)
		return ok
	}
	return true
}

// isContext reports whether name is a context attribute, not an extension.
func (ev *Event) isContext(name string) bool {
	switch name {
	case "id", "source", "type", "subject", "time", "datacontenttype", ev.schema():
		return true
	}
	return false
}

// extension returns the text of an extension that is not a string. A number must fit Java's Integer.
func extension(member json.RawMessage) (text string, ok bool) {
	if c := member[0]; c == '-' || c >= '0' && c <= '9' {
		n, err := strconv.ParseInt(string(member), 10, 32)
		return strconv.FormatInt(n, 10), err == nil
	}
	encoded, _ := encode(member)
	return string(encoded), true
}

// jsonText returns the text of a JSON string.
func jsonText(member json.RawMessage) (text string, ok bool) {
	if len(member) == 0 || member[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(member, &text)
	return text, err == nil
}

// encode encodes a valid JSON value as Jackson does that has read it into a tree (JsonCloudEventData.toBytes): without white space, the
// last of several members of one name, and each number that is not an integer as a double: 1.10 becomes 1.1, and digits beyond 17
// are lost. decimals reports whether there was such a number.
func encode(value json.RawMessage) (encoded []byte, decimals bool) {
	e := encoder{Decoder: json.NewDecoder(bytes.NewReader(value))}
	e.UseNumber()
	return e.value(nil), e.decimals
}

type encoder struct {
	*json.Decoder
	decimals bool
}

// value appends the next value to b.
func (e *encoder) value(b []byte) []byte {
	switch t := e.token().(type) {
	case json.Delim:
		if t == '[' {
			return e.array(b)
		}
		return e.object(b)
	case json.Number:
		return e.number(b, string(t))
	case string:
		return quote(b, t)
	case bool:
		return strconv.AppendBool(b, t)
	}
	return append(b, "null"...)
}

func (e *encoder) token() json.Token {
	token, _ := e.Token() // the value is valid
	return token
}

func (e *encoder) array(b []byte) []byte {
	b = append(b, '[')
	for n := 0; e.More(); n++ {
		if n > 0 {
			b = append(b, ',')
		}
		b = e.value(b)
	}
	e.token() // the bracket
	return append(b, ']')
}

func (e *encoder) object(b []byte) []byte {
	var names []string
	members := map[string][]byte{}
	for e.More() {
		name, _ := e.token().(string)
		if _, found := members[name]; !found {
			names = append(names, name)
		}
		members[name] = e.value(nil)
	}
	e.token() // the brace
	b = append(b, '{')
	for n, name := range names {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(append(quote(b, name), ':'), members[name]...)
	}
	return append(b, '}')
}

func (e *encoder) number(b []byte, text string) []byte {
	if !strings.ContainsAny(text, ".eE") { // an integer of any size
		if text == "-0" {
			text = "0"
		}
		return append(b, text...)
	}
	e.decimals = true
	f, _ := strconv.ParseFloat(text, 64) // infinite beyond the range
	if math.IsInf(f, 0) {
		return quote(b, javaFloat(f, 64))
	}
	return append(b, javaFloat(f, 64)...)
}

// quote appends a JSON string. Jackson escapes nothing but quotes, backslashes and control characters.
func quote(b []byte, text string) []byte {
	const escapes, letters = "\b\t\n\f\r\"\\", `btnfr"\`
	b = append(b, '"')
	for i := range len(text) {
		c := text[i]
		if n := strings.IndexByte(escapes, c); n >= 0 {
			b = append(b, '\\', letters[n])
		} else if c < 0x20 {
			b = fmt.Appendf(b, `\u%04X`, c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

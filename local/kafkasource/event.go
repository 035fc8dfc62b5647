package kafkasource

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
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
}

// isAttributeName reports whether name is a CloudEvents attribute name: lower-case letters and digits.
func isAttributeName(name string) bool { return name != "" && alphanumeric(name) == name }

// FromRecord converts a record to an event as a KafkaSource does. The checks are in the order of the data plane's KafkaMessageFactory
// and CloudEventDeserializer: structured if content-type is exactly a registered format; binary if there is a ce_specversion;
// anything else, and every invalid CloudEvent, is a plain record.
func FromRecord(r Record, s Spec) Event {
	ev, err := cloudEvent(r)
	if err != nil {
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

var errPlain = errors.New("not a CloudEvent")

func cloudEvent(r Record) (Event, error) {
	contentType := lastHeader(r.Headers, "content-type")
	format, _, _ := strings.Cut(contentType, ";")
	switch {
	case strings.TrimSpace(format) == "application/cloudevents+json": // case-sensitive, unlike the specification
		return structured(r.Value)
	case strings.HasPrefix(contentType, "application/cloudevents"):
		return Event{}, errPlain
	case lastHeader(r.Headers, "ce_specversion") == "":
		return Event{}, errPlain
	}
	return binaryEvent(r)
}

// binaryEvent maps ce_ headers to attributes. It drops other headers and the record key: only an explicit ce_partitionkey is kept
// (KafkaBinaryMessageReaderImpl).
func binaryEvent(r Record) (Event, error) {
	ev := Event{Attributes: map[string]string{}, ContentType: lastHeader(r.Headers, "content-type")}
	for _, h := range r.Headers {
		if name, ok := strings.CutPrefix(h.Name, "ce_"); ok {
			name = strings.ToLower(name)
			if !isAttributeName(name) {
				return Event{}, errPlain
			}
			ev.Attributes[name] = utf8Text(h.Value)
		}
	}
	if v := ev.Attributes["specversion"]; v != "1.0" && v != "0.3" {
		return Event{}, errPlain
	}
	for _, mandatory := range []string{"id", "source", "type"} {
		if ev.Attributes[mandatory] == "" {
			return Event{}, errPlain
		}
	}
	if t := ev.Attributes["time"]; t != "" {
		if _, err := time.Parse(time.RFC3339Nano, t); err != nil {
			return Event{}, errPlain
		}
	}
	if len(r.Value) > 0 {
		ev.Data = r.Value
	}
	return ev, nil
}

// structured parses an event in JSON format. It is delivered in binary mode, so its JSON data is encoded again, compactly. Prices
// should be sent in binary mode, which keeps their bytes.
func structured(value []byte) (Event, error) {
	var e event.Event
	if err := json.Unmarshal(value, &e); err != nil {
		return Event{}, errPlain
	}
	if err := e.Validate(); err != nil {
		return Event{}, errPlain
	}
	ev := Event{Attributes: map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(),
	}, ContentType: e.DataContentType()}
	if e.Subject() != "" {
		ev.Attributes["subject"] = e.Subject()
	}
	if e.DataSchema() != "" {
		ev.Attributes["dataschema"] = e.DataSchema()
	}
	if !e.Time().IsZero() {
		ev.Attributes["time"] = e.Time().Format(time.RFC3339Nano)
	}
	for name, v := range e.Extensions() {
		ev.Attributes[name] = fmt.Sprint(v)
	}
	if data := e.Data(); len(data) > 0 {
		ev.Data = data
		if ev.ContentType == "" {
			ev.ContentType = "application/json"
		}
	}
	return ev, nil
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
		"time":        javaTime(r.Timestamp),
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

// javaTime formats as ISO_OFFSET_DATE_TIME does: years beyond 9999 have a sign. They come from producers that send microseconds for
// milliseconds: the year is then about 58,000.
func javaTime(t time.Time) string {
	t = t.UTC()
	year, rest := t.Year(), t.Format("-01-02T15:04:05.999Z07:00")
	switch {
	case year > 9999:
		return "+" + strconv.Itoa(year) + rest
	case year < 0:
		return fmt.Sprintf("-%04d", -year) + rest
	}
	return fmt.Sprintf("%04d", year) + rest
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

// javaFloat formats as Java's toString does: always with a decimal point, and with an exponent from 10^7 on and below 10^-3.
func javaFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if abs := math.Abs(f); f == 0 || abs >= 1e-3 && abs < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, bits), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// utf8Text decodes as Java does: bytes that are not UTF-8 become U+FFFD.
func utf8Text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

func lastHeader(headers []Header, name string) string {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Name == name {
			return utf8Text(headers[i].Value)
		}
	}
	return ""
}

// requestHeader returns the headers of a delivery (WebClientCloudEventSender): binary content mode, without percent-encoding.
func requestHeader(ev Event, namespace string) http.Header {
	h := make(http.Header, len(ev.Attributes)+5)
	h["User-Agent"], h["Prefer"], h["Kn-Namespace"] = userAgent, prefer, []string{namespace}
	for name, value := range ev.Attributes {
		if name != "" {
			h["Ce-"+strings.ToUpper(name[:1])+name[1:]] = []string{latin1(value)} // in canonical form
		}
	}
	if ev.ContentType != "" {
		h["Content-Type"] = []string{latin1(ev.ContentType)}
	}
	if ev.Traceparent != "" {
		h["Traceparent"] = []string{latin1(ev.Traceparent)}
	}
	return h
}

var userAgent, prefer = []string{"Vert.x-WebClient/4.5.14"}, []string{"reply"}

// latin1 encodes text as the HTTP client of Vert.x does: one Latin-1 byte for each character, and ? for those above U+00FF. Vert.x
// refuses control characters, so the data plane retries such an event for hours and then loses it, together with its dead letter
// (eventing-kafka-broker#2732). latin1 replaces them with ?, too, so that nothing is lost; [Event.Unsendable] reports them.
func latin1(s string) string {
	if isPrintable(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	for _, c := range s {
		if isControl(c) || c > 0xFF {
			c = '?'
		}
		out = append(out, byte(c))
	}
	return string(out)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return true
}

func isControl(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7F }

// Unsendable returns the name of an attribute that a KafkaSource on a cluster cannot deliver, or "" if there is none.
func (ev Event) Unsendable() string {
	for name, value := range ev.Attributes {
		if strings.ContainsFunc(value, isControl) {
			return name
		}
	}
	return ""
}

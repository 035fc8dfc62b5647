package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

// place is where a record stands on a topic.
type place struct {
	Topic     string
	Partition int32
	Offset    int64
}

// failure is one refusal of a letter's event.
type failure struct {
	Code     string
	Reason   string
	Function string
	FailedAt time.Time
}

// letter is a dead letter as it is stored.
type letter struct {
	ID          uuid.UUID
	Origin      *place // of the original record; nil where nobody knows it
	RecordedAt  time.Time
	Exact       bool
	Key         []byte
	Value       []byte
	Headers     []kafkaclient.Header
	Attributes  map[string]string
	ContentType string
	Symbol      string
}

// text gives the last value of a header, made valid UTF-8.
func text(headers []kafkaclient.Header, name string) string {
	for i := len(headers) - 1; i >= 0; i-- {
		if strings.EqualFold(headers[i].Name, name) {
			return clean(string(headers[i].Value))
		}
	}
	return ""
}

// clean makes text storable: Postgres takes neither invalid UTF-8 nor NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// number reads a header as decimal text, or as Spring writes it: a big-endian int of 4 or 8 bytes.
func number(headers []kafkaclient.Header, name string) (int64, bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if !strings.EqualFold(headers[i].Name, name) {
			continue
		}
		v := headers[i].Value
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n, true
		}
		switch len(v) {
		case 4:
			return int64(int32(binary.BigEndian.Uint32(v))), true //nolint:gosec // the sign bit is meant
		case 8:
			return int64(binary.BigEndian.Uint64(v)), true //nolint:gosec // the sign bit is meant
		}
	}
	return 0, false
}

// families are the names under which dead letters carry their origin and reason: ours, Kafka Connect's, Kafka Streams'
// (KIP-1034) and Spring Kafka's. Knative's have no origin of their own: there it is in the extensions.
var families = []struct{ topic, partition, offset, code, reason, function string }{
	{"dlq-topic", "dlq-partition", "dlq-offset", "dlq-code", "dlq-reason", "dlq-function"},
	{"__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset", "__connect.errors.exception.class.name", "__connect.errors.exception.message", "__connect.errors.connector.name"},
	{"__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset", "__streams.errors.exception", "__streams.errors.message", ""},
	{"kafka_dlt-original-topic", "kafka_dlt-original-partition", "kafka_dlt-original-offset", "kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "kafka_dlt-original-consumer-group"},
	{"ce_kafkatopic", "ce_knativekafkapartition", "ce_knativekafkaoffset", "", "", ""},
}

// origin gives the place of the record that a dead letter record was made of.
func origin(headers []kafkaclient.Header) *place {
	for _, f := range families {
		topic := text(headers, f.topic)
		partition, ok1 := number(headers, f.partition)
		offset, ok2 := number(headers, f.offset)
		if topic != "" && ok1 && ok2 && partition >= 0 && partition < 1<<31 && offset >= 0 {
			return &place{topic, int32(partition), offset}
		}
	}
	return nil
}

// why gives the failure that a dead letter record tells of; at is used where it does not say when.
func why(headers []kafkaclient.Header, at time.Time) failure {
	f := failure{Code: "unknown", FailedAt: at}
	for _, family := range families {
		if family.code == "" {
			continue
		}
		if code := text(headers, family.code); code != "" {
			f.Code, f.Reason, f.Function = code, text(headers, family.reason), text(headers, family.function)
			break
		}
	}
	if f.Code == "unknown" {
		knativeFailure(headers, &f)
	}
	if t, err := time.Parse(time.RFC3339Nano, text(headers, "dlq-failed-at")); err == nil {
		f.FailedAt = t
	}
	f.Code, f.Reason = truncate(f.Code, 200), truncate(f.Reason, 2000)
	return f
}

// knativeFailure reads knativeerrordest, -code and -data. Data is base64 of the answer's first bytes (raw in some
// versions); where those are one of our problem documents, its code and detail are the failure's.
func knativeFailure(headers []kafkaclient.Header, f *failure) {
	destination, code := text(headers, "ce_knativeerrordest"), text(headers, "ce_knativeerrorcode")
	if destination == "" && code == "" {
		return
	}
	f.Function = destination
	f.Code, f.Reason = priceevent.CodeDeliveryFailed, "no answer from the function"
	if code != "" {
		f.Code, f.Reason = "http_"+code, "the function answered with status "+code
	}
	data := text(headers, "ce_knativeerrordata")
	if raw, err := base64.StdEncoding.DecodeString(data); err == nil {
		data = clean(string(raw))
	}
	var problem struct{ Code, Detail string }
	if json.Unmarshal([]byte(data), &problem) == nil && problem.Code != "" {
		f.Code, f.Reason = problem.Code, problem.Detail
	} else if data != "" {
		f.Reason += ": " + data
	}
}

func truncate(s string, n int) string {
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s[:n])
		s = s[:n-size]
	}
	return s
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`(?i)\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b`), "<hex>"},
	{regexp.MustCompile(`"[^"]*"`), "<text>"},
	{regexp.MustCompile(`\d+(\.\d+)?`), "<n>"},
}

// fingerprint is the same for failures of one cause: code and reason with numbers, ids, hex and quoted text masked.
func fingerprint(f failure) string {
	reason := f.Reason
	for _, m := range masks {
		reason = m.pattern.ReplaceAllString(reason, m.with)
	}
	sum := sha256.Sum256([]byte(f.Code + "\n" + reason))
	return hex.EncodeToString(sum[:8])
}

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

// symbolOf is a best effort: the body's symbol, else the key.
func symbolOf(value []byte, attributes map[string]string, key []byte) string {
	var body struct {
		Symbol string `json:"symbol"`
	}
	if len(value) < 64<<10 && json.Unmarshal(value, &body) == nil {
		if s, err := market.ParseSymbol(body.Symbol); err == nil {
			return string(s)
		}
	}
	for _, candidate := range []string{attributes["subject"], string(key)} {
		if s, err := market.ParseSymbol(candidate); err == nil && attributes["type"] != "dev.knative.kafka.event" {
			return string(s)
		}
	}
	return ""
}

// encode gives bytes for JSON: as text if they are valid UTF-8 without NUL, else as base64.
func encode(b []byte) (value, encoding string) {
	if utf8.Valid(b) && !strings.Contains(string(b), "\x00") {
		return string(b), "text"
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

// decode is the inverse of encode.
func decode(value, encoding string) ([]byte, error) {
	switch encoding {
	case "", "text":
		return []byte(value), nil
	case "base64":
		return base64.StdEncoding.DecodeString(value)
	}
	return nil, fmt.Errorf("unknown encoding %q", encoding)
}

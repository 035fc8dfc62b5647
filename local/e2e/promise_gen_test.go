//go:build integration

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits of the hops that a record passes.
const (
	maxEvent = 1 << 20      // MAX_EVENT_BYTES, a KafkaSink's max.request.size, an HTTP server's headers by default
	maxTopic = 2 << 20      // max.message.bytes of both topics: size of a batch, after compression
	indexRow = 2_704        // largest entry of a btree index of Postgres
	connRead = 4_096        // a buffer of net/http
	vertx    = 8_192        // a header in Vert.x
	symbols  = "PROMISE-%d" // symbol of the n-th record
)

// promised is a record for price-events, and its expected outcome.
type promised struct {
	what   string // describes the record in a failure
	record *kgo.Record
	packed bool   // compressed, so that the topic accepts larger records
	good   bool   // applied; otherwise a letter
	event  bool   // a CloudEvent
	data   []byte // data of a structured event, which the source delivers; otherwise nil
	symbol string
}

// generator makes records whose parts have sizes at, near or far beyond a limit. The same seed gives the same records.
type generator struct {
	*rand.Rand
	topic string
	n     int
}

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

// near returns a length at a limit, or up to 2 off.
func (g *generator) near(bound int) int { return max(0, bound+g.IntN(5)-2) }

// junk returns incompressible bytes.
func (g *generator) junk(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], g.Uint64())
	}
	return b[:n]
}

// ascii returns printable text of length n.
func (g *generator) ascii(n int) []byte {
	b := g.junk(n)
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return b
}

// body returns the body of a good event, padded to a length with a member that is ignored.
func (g *generator) body(symbol string, length int) []byte {
	id := uuid.UUID(g.junk(16))
	head := fmt.Sprintf(`{"symbol":%q,"price":%d.25,"timestamp":"2024-03-20T10:30:00Z","source":"promise","raw_response_id":%q`, symbol, 1+g.IntN(1000), id)
	if pad := length - len(head) - len(`,"pad":""}`); pad > 0 {
		return append(append([]byte(head+`,"pad":"`), bytes.Repeat([]byte("x"), pad)...), `"}`...)
	}
	return []byte(head + "}")
}

func (g *generator) next() promised {
	g.n++
	p := promised{record: &kgo.Record{Topic: g.topic}, symbol: fmt.Sprintf(symbols, g.n), packed: g.IntN(3) == 0}
	large := g.IntN(8) == 0
	g.value(&p, large)
	g.mode(&p)
	g.key(&p, large)
	g.headers(&p, large)
	g.timestamp(&p)
	return p
}

func (g *generator) value(p *promised, large bool) {
	lengths := []int{0, 200, connRead, vertx, indexRow, 70_000}
	if large {
		lengths = []int{maxEvent, maxEvent, maxEvent + 1000, maxTopic - 600, maxTopic, 3 << 20, 5 << 20}
	}
	length := g.near(pick(g, lengths...))
	switch g.IntN(6) {
	case 0, 1, 2:
		p.record.Value = g.body(p.symbol, length)
		p.good = len(p.record.Value) <= maxEvent
		p.what = fmt.Sprintf("good body of %d", len(p.record.Value))
	case 3:
		p.record.Value = bytes.Repeat([]byte{byte(g.IntN(256))}, length)
		p.what = fmt.Sprintf("%d bytes of one kind", length)
	case 4:
		p.record.Value = g.junk(min(length, maxTopic-g.IntN(800)))
		p.what = fmt.Sprintf("%d bytes of junk", len(p.record.Value))
	default:
		p.what = "null"
		if g.IntN(2) == 0 {
			p.what, p.record.Value = "empty", []byte{}
		}
	}
}

// mode makes the record a plain record, a CloudEvent, or an invalid CloudEvent.
func (g *generator) mode(p *promised) {
	add := func(name, value string) {
		p.record.Headers = append(p.record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	id := string(pick(g, g.ascii(36), g.ascii(g.near(indexRow)), g.ascii(6_000), []byte("a\x00b"), []byte("zürich €"), []byte("a\r\nb"), []byte("\xff\xfe"), nil))
	eventType := "marketdata.price.observed.v1"
	switch g.IntN(10) {
	case 0:
		eventType, p.good = pick(g, "dev.knative.sources.ping", "marketdata.price.observed.v2", "x"), false
	case 1:
		eventType = "dev.knative.kafka.event"
	}
	switch mode := g.IntN(8); mode {
	case 0, 1, 2, 3:
		if mode > 1 && eventType == "dev.knative.sources.ping" || id == "" {
			p.what += ", incomplete CloudEvent, which is a plain record"
			add("ce_specversion", "1.0")
			add("ce_type", eventType)
			g.plainAgain(p)
			return
		}
		p.what += fmt.Sprintf(", binary, type %s, id of %d", eventType, len(id))
		add("ce_specversion", "1.0")
		add("ce_id", id)
		source := pick(g, "/s", "%zz :", string(g.ascii(3_000)), "urn:x")
		if p.event = source != "%zz :"; !p.event {
			p.what += ", whose source is no URI, which makes it a plain record"
			p.asPlain()
		}
		add("ce_source", source)
		add("ce_type", eventType)
		if g.IntN(3) == 0 {
			add("ce_time", pick(g, "2024-03-20T10:30:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"))
		}
		if g.IntN(4) == 0 {
			add("ce_partitionkey", string(g.ascii(g.near(250_000))))
		}
	case 4:
		g.structured(p, add, eventType, id)
	default:
		p.what += ", plain"
		g.plainAgain(p)
	}
}

// asPlain sets the expected outcome of a plain record, which has no event type.
func (p *promised) asPlain() {
	p.good = len(p.record.Value) <= maxEvent && bytes.HasPrefix(p.record.Value, []byte(`{"symbol"`))
}

func (g *generator) plainAgain(p *promised) {
	p.asPlain()
	if g.IntN(3) == 0 {
		p.record.Headers = append(p.record.Headers, kgo.RecordHeader{Key: pick(g, "content-type", "Content-Type"), Value: []byte(pick(g,
			"application/json", "text/plain", "Application/CloudEvents+json", "application/cloudevents-batch+json", "application/cloudevents+avro", "\xff", ""))})
	}
}

// structured wraps the value in an envelope, which the source unwraps.
func (g *generator) structured(p *promised, add func(name, value string), eventType, id string) {
	good := p.good
	p.asPlain()
	if !p.good || len(p.record.Value) > maxEvent-20_000 || strings.ContainsAny(id, "\x00\r") || !utf8.ValidString(id) || id == "" {
		add("content-type", "application/cloudevents+json")
		p.what += ", with the content type of a structured event"
		return
	}
	p.good, p.event, p.data = good, true, p.record.Value
	p.record.Value = fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/s","type":%q,"data":%s}`, id, eventType, p.record.Value)
	add("content-type", "application/cloudevents+json; charset=utf-8")
	p.what += ", structured, type " + eventType
}

func (g *generator) key(p *promised, large bool) {
	switch g.IntN(8) {
	case 0:
		p.record.Key = []byte{}
	case 1:
		p.record.Key = g.junk(g.near(pick(g, 1, indexRow, vertx)))
	case 2:
		if large {
			p.record.Key = g.junk(250_000)
		}
	case 3, 4:
		p.record.Key = []byte(p.symbol)
	}
	p.what += fmt.Sprintf(", key of %d", len(p.record.Key))
}

func (g *generator) headers(p *promised, large bool) {
	add := func(name string, value []byte) {
		p.record.Headers = append(p.record.Headers, kgo.RecordHeader{Key: name, Value: value})
	}
	switch kind := g.IntN(12); kind {
	case 0:
		if p.event { // with a plain record, a KafkaSource would lose it and its neighbours
			add("none", nil)
		}
		add("empty", []byte{})
	case 1:
		add("trace", []byte("one"))
		add("trace", []byte("two"))
		add("Trace", []byte("three"))
	case 2:
		add("", []byte("a name of no bytes"))
		add("Zürich €/trace id", []byte("Zürich €"))
		add("ce_trace id", []byte("7"))
		if isCloudEvent(p.record) { // the attribute name is invalid, so it is a plain record
			p.asPlain()
		}
	case 3:
		add("binary", g.junk(40))
		add("lines", []byte("a\r\nb: c\x00"))
	case 4:
		for i := range pick(g, 100, 3_000) {
			add(fmt.Sprint("h", i), g.ascii(g.IntN(30)))
		}
	case 5:
		add("traceparent", pick(g, []byte("rubbish\x01"), []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), []byte{}))
		add("host", []byte("elsewhere"))
		add("content-length", []byte("5"))
	case 6, 7:
		if large {
			add("big", g.ascii(g.near(pick(g, maxEvent, 1_200_000, maxTopic-5_000))))
		} else {
			add("big", g.ascii(g.near(pick(g, connRead, vertx, indexRow, 65_536))))
		}
	case 8:
		add("dlq-topic", []byte(g.topic)) // headers of a letter
		add("dlq-partition", []byte("0"))
		add("dlq-offset", []byte("0"))
	case 9:
		add(string(g.ascii(300)), []byte("a long name"))
	default:
		return
	}
	p.what += fmt.Sprintf(", %d headers of %d", len(p.record.Headers), headerBytes(p.record))
}

func isCloudEvent(r *kgo.Record) bool {
	for _, h := range r.Headers {
		if h.Key == "ce_specversion" {
			return true
		}
	}
	return false
}

func headerBytes(r *kgo.Record) (n int) {
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// timestamp sets a timestamp as producers do: milliseconds, microseconds or nanoseconds sent as milliseconds, or none.
func (g *generator) timestamp(p *promised) {
	now := time.Now()
	ms := pick(g, now.UnixMilli(), now.UnixMicro(), now.UnixNano(), 0, -1, -62_135_596_800_000, 253_402_300_800_000, math.MaxInt64/1_000_000, 1)
	p.record.Timestamp = time.UnixMilli(ms)
	p.what += fmt.Sprint(", at ", ms)
}

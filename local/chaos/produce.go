package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Series of events that the load itself produces. No function has a hand in them before compute-ma.
const (
	eventsTopic    = "price-events"
	lettersTopic   = "price-events-dlq"
	eventProvider  = "chaos"
	constSymbol    = "CONST"
	constPrice     = "7"
	fixSymbol      = "FIX"      // of events whose price is a string: a replay corrects them
	hopelessSymbol = "HOPELESS" // of events that no replay makes good
	poisonSource   = "/chaos/poison"
	goodSource     = "/chaos"
)

func eventSymbols() (all []string) {
	for i := range 8 {
		all = append(all, fmt.Sprint("EVENT", i))
	}
	return all
}

// events produces price events: out of order, repeated, corrected, and some that are poison.
type events struct {
	*system
	*book
	rand  *rand.Rand
	kafka *kgo.Client
	began time.Time
	n     int

	mu     sync.Mutex
	recent []*kgo.Record // good ones, for direct delivery
}

func newEvents(s *system, b *book, seed uint64) (*events, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker), kgo.ProducerLinger(5*time.Millisecond), kgo.RecordRetries(1_000_000))
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return &events{system: s, book: b, rand: rand.New(rand.NewPCG(seed, 1)), kafka: client, began: time.Now().UTC()}, nil
}

// produceSteadily produces until ctx ends, and then waits for what the broker has not acknowledged yet.
func (e *events) produceSteadily(ctx context.Context) {
	for pause(ctx, time.Duration(10+e.rand.IntN(80))*time.Millisecond) {
		record := e.next()
		copies := 1 + e.rand.IntN(5)/4
		for range copies {
			again := *record
			e.kafka.Produce(context.WithoutCancel(ctx), &again, func(r *kgo.Record, err error) {
				if err == nil {
					e.note(func() { e.produced = append(e.produced, r) })
				}
			})
		}
		if isGood(record) {
			e.mu.Lock()
			e.recent = append(e.recent[max(0, len(e.recent)-300):], record)
			e.mu.Unlock()
		}
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_ = e.kafka.Flush(flush) // what is not acknowledged by then is not in the book
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func isGood(r *kgo.Record) bool { return header(r, "ce_source") != poisonSource }

// next returns the next event.
func (e *events) next() *kgo.Record {
	e.n++
	r := e.rand
	id := uuid.UUID(binary16(r))
	at := e.began.Add(-time.Duration(r.IntN(900)) * time.Second).Truncate(time.Second)
	price := fmt.Sprintf("%d.%0*d", 1+r.IntN(10_000), 1+r.IntN(12), r.IntN(10))
	switch kind := r.IntN(20); {
	case kind < 13: // some at a time that others have, too
		return e.record(eventSymbols()[r.IntN(8)], price, at, id, r.IntN(10)/9)
	case kind < 15: // a time of its own, between others
		return e.record(eventSymbols()[r.IntN(8)], price, at.Add(time.Duration(r.IntN(1_000_000))*time.Microsecond), id, 0)
	case kind < 17:
		return e.record(constSymbol, constPrice, e.began.Add(time.Duration(e.n)*time.Millisecond), id, 0)
	case kind < 19:
		return e.poison(fixSymbol, fmt.Sprintf(`{"symbol":%q,"price":"%d.25","timestamp":%q,"source":%q,"raw_response_id":%q}`,
			fixSymbol, e.n, e.began.Add(time.Duration(e.n)*time.Millisecond).Format(time.RFC3339Nano), eventProvider, id))
	}
	good := fmt.Sprintf(`"timestamp":%q,"source":%q,"raw_response_id":%q`, at.Format(time.RFC3339), eventProvider, id)
	bodies := []string{
		`{"symbol":"` + hopelessSymbol + `","price":-1,` + good + "}",
		`{"symbol":"` + hopelessSymbol + `","price":` + strings.Repeat("9", 30) + "," + good + "}",
		`{"symbol":"` + hopelessSymbol + `",` + good + "}",
		`{"symbol":"not a symbol","price":1,` + good + "}",
		`{"symbol":"` + hopelessSymbol + `","price":1,"timestamp":"1969-01-01T00:00:00Z","source":"chaos","raw_response_id":"` + id.String() + `"}`,
		"{", "\x00\xff\r\n" + id.String(), strings.Repeat("long ", 5_000) + id.String(),
	}
	return e.poison(hopelessSymbol, bodies[r.IntN(len(bodies))])
}

func binary16(r *rand.Rand) (b [16]byte) {
	binary.NativeEndian.PutUint64(b[:8], r.Uint64())
	binary.NativeEndian.PutUint64(b[8:], r.Uint64())
	return b
}

func (e *events) record(symbol, price string, at time.Time, id uuid.UUID, correction int) *kgo.Record {
	text := at.Format(time.RFC3339Nano)
	value := fmt.Sprintf(`{"symbol":%q,"price":%s,"timestamp":%q,"source":%q,"raw_response_id":%q}`, symbol, price, text, eventProvider, id)
	r := e.event(symbol, goodSource, value)
	if correction > 0 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_correction", Value: []byte(fmt.Sprint(correction))})
	}
	return r
}

func (e *events) poison(key, value string) *kgo.Record { return e.event(key, poisonSource, value) }

func (e *events) event(key, source, value string) *kgo.Record {
	r := &kgo.Record{Topic: eventsTopic, Key: []byte(key), Value: []byte(value)}
	for _, h := range [][2]string{
		{"content-type", "application/json"},
		{"ce_specversion", "1.0"},
		{"ce_type", "marketdata.price.observed.v1"},
		{"ce_source", source},
		{"ce_id", fmt.Sprint("chaos-", e.n)},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return r
}

// deliverAgain delivers events that were produced a moment ago once more, in any order, as a second source would.
func (e *events) deliverAgain(ctx context.Context) {
	r := rand.New(rand.NewPCG(uint64(e.began.UnixNano()), 2))
	client := &http.Client{Timeout: 20 * time.Second}
	for pause(ctx, 200*time.Millisecond) {
		e.mu.Lock()
		var record *kgo.Record
		if len(e.recent) > 0 {
			record = e.recent[r.IntN(len(e.recent))]
		}
		e.mu.Unlock()
		if record == nil {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.links["compute-ma"].addr+"/", strings.NewReader(string(record.Value)))
		if err != nil {
			panic("chaos: " + err.Error()) // our own request is wrong
		}
		req.Header.Set("Content-Type", "application/json")
		for _, h := range record.Headers {
			if name, found := strings.CutPrefix(h.Key, "ce_"); found {
				req.Header.Set("Ce-"+name, string(h.Value))
			}
		}
		status := 0
		if resp, err := client.Do(req); err == nil {
			status = resp.StatusCode
			_ = resp.Body.Close() // not read
		}
		e.note(func() { e.statuses[fmt.Sprintf("POST compute-ma %d", status)]++ })
	}
}

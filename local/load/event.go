package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
)

// event is a price event as get-latest publishes it.
type event struct {
	symbol string
	id     string
	at     string
	value  []byte
}

// eventSymbols is the number of series in a backlog.
const eventSymbols = 100

// newEvent returns event n of a set. Each n is a point of its own.
func newEvent(set string, n int) event {
	e := event{symbol: set + strconv.Itoa(n%eventSymbols)}
	e.at = time.Unix(1_700_000_000+int64(n/eventSymbols), 0).UTC().Format(time.RFC3339)
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n)) //nolint:gosec // a counter
	id[6], id[8] = 0x70, 0x80
	price := fmt.Sprintf("%d.%02d", 1+rand.IntN(999), rand.IntN(100))
	e.id = id.String() + ":" + e.symbol
	e.value = []byte(`{"symbol":"` + e.symbol + `","price":` + price + `,"timestamp":"` + e.at + `","source":"yfinance","raw_response_id":"` + id.String() + `"}`)
	return e
}

// poison returns event n of a set of events that can never succeed: its price is a string.
func poison(set string, n int) event {
	e := newEvent(set, n)
	e.value = []byte(`{"symbol":"` + e.symbol + `","price":"` + strconv.Itoa(n) + `","timestamp":"` + e.at + `","source":"yfinance"}`)
	return e
}

func (e event) attributes() [][2]string {
	return [][2]string{
		{"specversion", "1.0"},
		{"type", "marketdata.price.observed.v1"},
		{"source", "/providers/yfinance"},
		{"id", e.id},
		{"time", e.at},
		{"subject", e.symbol},
		{"partitionkey", e.symbol},
	}
}

// lines returns the request headers of the event in binary mode.
func (e event) lines() []string {
	lines := []string{"Content-Type: application/json"}
	for _, a := range e.attributes() {
		lines = append(lines, "Ce-"+a[0]+": "+a[1])
	}
	return lines
}

// message returns the Kafka record of the event in binary mode, with more headers.
func (e event) message(topic string, more ...kafka.Header) *kafka.Message {
	headers := []kafka.Header{{Key: "content-type", Value: []byte("application/json")}}
	for _, a := range e.attributes() {
		headers = append(headers, kafka.Header{Key: "ce_" + a[0], Value: []byte(a[1])})
	}
	return &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny},
		Key:            []byte(e.symbol), Value: e.value, Headers: append(headers, more...),
	}
}

// produce produces n messages and returns once the broker has acknowledged all of them.
func (m *run) produce(ctx context.Context, n int, message func(i int) *kafka.Message) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": m.env["KAFKA_BOOTSTRAP_SERVERS"], "enable.idempotence": true, "linger.ms": 5, "enable.metrics.push": false,
		"queue.buffering.max.messages": n + 1,
	})
	if err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	defer p.Close()
	acknowledged := make(chan kafka.Event, n)
	for i := range n {
		if err := p.Produce(message(i), acknowledged); err != nil {
			return fmt.Errorf("produce: %w", err)
		}
	}
	for range n {
		select {
		case e := <-acknowledged:
			if sent, ok := e.(*kafka.Message); ok && sent.TopicPartition.Error != nil {
				return fmt.Errorf("produce: %w", sent.TopicPartition.Error)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

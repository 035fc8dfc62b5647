// Package kafkaclient produces acknowledged records to Kafka, and reads single records by their place. Functions have no consumer:
// the platform's KafkaSource consumes for them.
package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/shared/fault"
)

// MaxMessageBytes bounds a record: more than any event with our headers, as the topics allow.
const MaxMessageBytes = 2 << 20

// reconnectMillis is the first back-off of a lost connection, in milliseconds. librdkafka also waits half of it between
// its first connection, which only learns the brokers' addresses, and the next: with its default of 100 every cold start
// waits 50 ms for its first metadata.
const reconnectMillis = 20

// CodeTooLarge is the fault code of a record that the topic can never take.
const CodeTooLarge = "message_too_large"

// Record is one record to produce.
type Record struct {
	Topic   string
	Key     []byte // nil: no key
	Value   []byte // nil: null value
	Headers []Header
}

// Header is one Kafka header; the order and repeats of headers are kept.
type Header struct {
	Name  string
	Value []byte
}

const (
	headerOverhead = 12  // of a header in its encoding, at most
	batchOverhead  = 128 // of a batch with one record: 61 bytes, and the record's own fields
)

// HeaderBytes returns at least what headers take in a record.
func HeaderBytes(headers []Header) int {
	n := 0
	for _, h := range headers {
		n += len(h.Name) + len(h.Value) + headerOverhead
	}
	return n
}

// Bytes returns at least what the record takes in a batch, uncompressed.
func (r Record) Bytes() int {
	return len(r.Key) + len(r.Value) + HeaderBytes(r.Headers) + batchOverhead
}

// Producer produces with acks=all and idempotence. It connects at the first call, so that a function starts without a
// broker. Safe for concurrent use.
type Producer struct {
	servers string
	mu      sync.Mutex
	p       *kafka.Producer
}

// NewProducer makes a producer for the comma-separated bootstrap servers. Close it to flush.
func NewProducer(bootstrapServers string) *Producer { return &Producer{servers: bootstrapServers} }

func (p *Producer) open() (*kafka.Producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.p != nil {
		return p.p, nil
	}
	producer, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers":                 p.servers,
		"acks":                              "all",
		"enable.idempotence":                true,
		"linger.ms":                         10, // once a wait is over, librdkafka spins until what is in flight is acknowledged: longer than that takes
		"message.max.bytes":                 MaxMessageBytes,
		"message.timeout.ms":                30_000,
		"allow.auto.create.topics":          false,
		"reconnect.backoff.ms":              reconnectMillis,
		"reconnect.backoff.max.ms":          1_000,
		"go.events.channel.size":            16, // the binding's channels of a million slots each cost 24 MB, and the
		"go.produce.channel.size":           1,  // collector's time to scan them; nothing here goes through them
		"enable.metrics.push":               false,
		"go.logs.channel.enable":            true, // librdkafka would write to stderr past the JSON log
		"topic.metadata.propagation.max.ms": 1_000,
	})
	if err != nil {
		return nil, fmt.Errorf("open producer: %w", err)
	}
	go drain(producer)
	p.p = producer
	return producer, nil
}

// drain empties the channels nobody listens to: each delivery has a channel of its own, and what the logs tell reaches
// callers as errors.
func drain(producer *kafka.Producer) {
	events, logs := producer.Events(), producer.Logs()
	for events != nil {
		select {
		case e, open := <-events:
			if !open {
				events = nil
			}
			_ = e
		case <-logs:
		}
	}
}

// Produce writes r and waits for the broker's acknowledgement, or until ctx ends. After an error the record may still
// arrive: consumers are idempotent. Errors: Invalid "message_too_large" for a record the broker will never take, else
// Unavailable "broker_unavailable".
func (p *Producer) Produce(ctx context.Context, r Record) error {
	producer, err := p.open()
	if err != nil {
		return unavailable(err)
	}
	headers := make([]kafka.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = kafka.Header{Key: h.Name, Value: h.Value}
	}
	done := make(chan kafka.Event, 1)
	err = producer.Produce(&kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &r.Topic, Partition: kafka.PartitionAny},
		Key:            r.Key, Value: r.Value, Headers: headers,
	}, done)
	if err != nil {
		return classify(err)
	}
	select {
	case e := <-done:
		m, ok := e.(*kafka.Message)
		if !ok {
			return unavailable(fmt.Errorf("unexpected delivery event %T", e))
		}
		return classify(m.TopicPartition.Error)
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
}

// Check returns a check of whether the broker answers a question about a topic. It opens the connection.
func (p *Producer) Check(topic string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		producer, err := p.open()
		if err != nil {
			return unavailable(err)
		}
		if _, err := producer.GetMetadata(&topic, false, millisecondsLeft(ctx)); err != nil {
			return unavailable(err)
		}
		return nil
	}
}

// Close flushes what is queued, at most for the given time, and disconnects.
func (p *Producer) Close(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.p != nil {
		p.p.Flush(int(wait.Milliseconds()))
		p.p.Close()
		p.p = nil
	}
}

func classify(err error) error {
	if err == nil {
		return nil
	}
	var ke kafka.Error
	if errors.As(err, &ke) && (ke.Code() == kafka.ErrMsgSizeTooLarge || ke.Code() == kafka.ErrInvalidMsgSize) {
		return fault.Wrap(err, fault.Invalid, CodeTooLarge, "the record is larger than the topic takes")
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return fault.Wrap(err, fault.Unavailable, "broker_unavailable", "the message broker does not answer").After(time.Second)
}

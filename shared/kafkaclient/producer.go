// Package kafkaclient produces acknowledged records to Kafka and reads single records by topic, partition and offset. Functions
// have no consumer of their own: the platform's KafkaSource consumes for them.
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

// MaxMessageBytes is the largest record that the producer sends: more than any event with our headers, and the limit of our topics.
const MaxMessageBytes = 2 << 20

// reconnectMillis is the first back-off after a lost connection, in milliseconds. librdkafka also waits half of it between
// the bootstrap connection and the next one: with the default of 100, every cold start waits 50 ms for its first metadata.
const reconnectMillis = 20

// Record is one record to produce.
type Record struct {
	Topic   string
	Key     []byte // nil: no key
	Value   []byte // nil: null value
	Headers []Header
}

// Header is one Kafka header. The order of headers is kept, and names may repeat.
type Header struct {
	Name  string
	Value []byte
}

const (
	headerOverhead = 12  // of one encoded header, at most
	batchOverhead  = 128 // of a batch with one record: 61 bytes, and the record's own fields
)

// HeaderBytes returns an upper bound of the encoded size of headers in a record.
func HeaderBytes(headers []Header) int {
	n := 0
	for _, h := range headers {
		n += len(h.Name) + len(h.Value) + headerOverhead
	}
	return n
}

// Bytes returns an upper bound of the record's size in a batch, uncompressed.
func (r Record) Bytes() int {
	return len(r.Key) + len(r.Value) + HeaderBytes(r.Headers) + batchOverhead
}

// Producer produces with acks=all and idempotence. It connects on the first call, so a function can start without a broker.
// Safe for concurrent use.
type Producer struct {
	servers string
	mu      sync.Mutex
	p       *kafka.Producer
}

// NewProducer returns a producer for the comma-separated bootstrap servers. Close flushes it.
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
		"linger.ms":                         10, // longer than an acknowledgement takes: when linger ends earlier, librdkafka spins until then
		"message.max.bytes":                 MaxMessageBytes,
		"message.timeout.ms":                30_000,
		"allow.auto.create.topics":          false,
		"reconnect.backoff.ms":              reconnectMillis,
		"reconnect.backoff.max.ms":          1_000,
		"go.events.channel.size":            16, // the default of a million slots costs 24 MB per channel, which
		"go.produce.channel.size":           1,  // the garbage collector also scans; nothing here uses them
		"enable.metrics.push":               false,
		"go.logs.channel.enable":            true, // otherwise librdkafka writes plain text to stderr, next to the JSON log
		"topic.metadata.propagation.max.ms": 1_000,
	})
	if err != nil {
		return nil, fmt.Errorf("open producer: %w", err)
	}
	go drain(producer)
	p.p = producer
	return producer, nil
}

// drain empties the channels that have no reader: each delivery has a channel of its own, and callers get the logged errors as
// errors.
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

// Produce writes r and returns once the broker has acknowledged it, or ctx ends. After an error the record may still arrive;
// consumers are idempotent. Errors: Invalid "message_too_large" if the record is larger than the topic allows, otherwise
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

// Check returns a check that the broker answers a metadata request for a topic. It opens the connection.
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

// Close flushes queued records for at most the given time, and disconnects.
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
		return fault.Wrap(err, fault.Invalid, fault.CodeMessageTooLarge, "the record is larger than the topic allows")
	}
	return unavailable(err)
}

func unavailable(err error) error {
	return fault.Wrap(err, fault.Unavailable, fault.CodeBrokerUnavailable, "the message broker does not answer").After(time.Second)
}

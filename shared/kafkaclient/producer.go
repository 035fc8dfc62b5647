// Package kafkaclient produces acknowledged records to Kafka and reads single records by topic, partition and offset. Functions
// have no consumer of their own: the platform's KafkaSource consumes for them.
package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/shared/fault"
	"marketdata/shared/trace"
)

// MaxMessageBytes is the largest record that the producer sends: more than any event with our headers, and the limit of our topics.
const MaxMessageBytes = 2 << 20

// reconnectMillis is the first back-off after a lost connection, in milliseconds. librdkafka also waits half of it between
// the bootstrap connection and the next one: with the default of 100, every cold start waits 50 ms for its first metadata.
const reconnectMillis = 20

// inFlight is one request at a time to a broker. If there were more, records could be lost that were acknowledged: a broker that has no
// state of a producer takes any record for its first one. So it may refuse a request, as one that is just becoming the leader does, and
// accept the next, and librdkafka concludes that it has both. Functions that scale to zero often have a new producer.
// https://github.com/confluentinc/confluent-kafka-go/issues/921, KAFKA-15591.
const inFlight = 1

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
	config Config
	state  *State
	mu     sync.Mutex
	p      *kafka.Producer
	opened time.Time
	fatal  bool // p has failed for good
}

// again is the least time between two producers, if one after the other fails for good.
const again = time.Second

// NewProducer returns a producer. It logs when the brokers cannot be used, and why. Close flushes it.
func NewProducer(c Config, log *slog.Logger) *Producer {
	return &Producer{config: c, state: NewState(c, log)}
}

func (p *Producer) open() (*kafka.Producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.p != nil && (!p.fatal || time.Since(p.opened) < again) {
		return p.p, nil
	}
	if p.p != nil {
		go p.p.Close() // its records have failed
		p.p = nil
	}
	producer, err := kafka.NewProducer(p.config.Map(kafka.ConfigMap{
		"acks":                              "all",
		"enable.idempotence":                true,
		"max.in.flight":                     inFlight,
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
	}))
	if err != nil {
		return nil, fmt.Errorf("open producer: %w", err)
	}
	go p.drain(producer)
	p.p, p.opened, p.fatal = producer, time.Now(), false
	return producer, nil
}

// drain empties the channels that have no reader: each delivery has a channel of its own. Errors say whether the brokers can be used.
func (p *Producer) drain(producer *kafka.Producer) {
	events, logs := producer.Events(), producer.Logs()
	for events != nil {
		select {
		case e, open := <-events:
			if err, ok := e.(kafka.Error); ok {
				p.state.Failed(err)
				p.failed(producer, err)
			} else if !open {
				events = nil
			}
		case <-logs: // the errors among them are events, too
		}
	}
}

// failed notes an error after which librdkafka's producer refuses everything: an idempotent one that may not get its number, say. The
// next call makes another one, since the cause may be gone by then.
func (p *Producer) failed(producer *kafka.Producer, err kafka.Error) {
	if !err.IsFatal() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fatal = p.fatal || p.p == producer
}

// Produce writes r and returns once the broker has acknowledged it, or ctx ends. After an error the record may still arrive;
// consumers are idempotent. Errors: Invalid "message_too_large" if the record is larger than the topic allows, otherwise
// Unavailable "broker_unavailable".
func (p *Producer) Produce(ctx context.Context, r Record) (err error) {
	ctx, span := trace.Start(ctx, trace.Producer, "send", r.Topic)
	defer func() { span.End(err) }()
	span.Text("messaging.system", "kafka")
	span.Text("messaging.operation.type", "send")
	span.Text("messaging.destination.name", r.Topic)
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
		return p.classify(err)
	}
	select {
	case e := <-done:
		m, ok := e.(*kafka.Message)
		if !ok {
			return unavailable(fmt.Errorf("unexpected delivery event %T", e))
		}
		err := m.TopicPartition.Error
		if fatal := producer.GetFatalError(); err != nil && fatal != nil {
			err = fatal // the record was purged because of it
		}
		return p.classify(err)
	case <-ctx.Done():
		return p.state.explain(unavailable(context.Cause(ctx)))
	}
}

// Check returns a check that the broker answers a metadata request for a topic. It opens the connection.
func (p *Producer) Check(topic string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		producer, err := p.open()
		if err != nil {
			return unavailable(err)
		}
		m, err := producer.GetMetadata(&topic, false, millisecondsLeft(ctx))
		if err == nil && m.Topics[topic].Error.Code() != kafka.ErrNoError { // it does not exist, or we may not use it
			err = m.Topics[topic].Error
		}
		return p.classify(err)
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

// classify makes a fault of librdkafka's error, and notes it.
func (p *Producer) classify(err error) error {
	if err == nil {
		p.state.Worked()
		return nil
	}
	var ke kafka.Error
	if errors.As(err, &ke) && (ke.Code() == kafka.ErrMsgSizeTooLarge || ke.Code() == kafka.ErrInvalidMsgSize) {
		return fault.Wrap(err, fault.Invalid, fault.CodeMessageTooLarge, "the record is larger than the topic allows")
	}
	p.state.Failed(err)
	return p.state.explain(unavailable(err))
}

func unavailable(err error) error {
	return fault.Wrap(err, fault.Unavailable, fault.CodeBrokerUnavailable, "the message broker does not answer").After(time.Second)
}

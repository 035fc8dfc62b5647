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

// Stored is a record at its place on a topic.
type Stored struct {
	Record
	Partition int32
	Offset    int64
	Timestamp time.Time // zero if the record has none
}

// Reader reads single records by their place, without any group. It connects at the first call. Safe for concurrent use;
// reads take turns.
type Reader struct {
	servers string
	mu      sync.Mutex
	c       *kafka.Consumer
}

// NewReader makes a reader for the comma-separated bootstrap servers.
func NewReader(bootstrapServers string) *Reader { return &Reader{servers: bootstrapServers} }

// readWait bounds one read where the caller sets no deadline.
const readWait = 5 * time.Second

func (r *Reader) open() (*kafka.Consumer, error) {
	if r.c != nil {
		return r.c, nil
	}
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": r.servers, "group.id": "marketdata.reader", "enable.auto.commit": false,
		"auto.offset.reset": "error", "enable.partition.eof": true, "isolation.level": "read_committed",
		"allow.auto.create.topics": false, "enable.metrics.push": false, "go.logs.channel.enable": true,
		"reconnect.backoff.ms": reconnectMillis, "fetch.error.backoff.ms": 20, "fetch.wait.max.ms": 100, "topic.metadata.refresh.fast.interval.ms": 50,
		"queued.min.messages": 1, "fetch.message.max.bytes": 64 << 10, // one record is wanted, not those behind it
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("open reader: %w", err))
	}
	go func() {
		for range c.Logs() {
			continue // emptied: what the logs tell reaches callers as errors
		}
	}()
	r.c = c
	return c, nil
}

// Read gives the record at the place. NotFound with code "record_gone" if there is none (any more); Unavailable
// "broker_unavailable" if the broker does not say.
func (r *Reader) Read(ctx context.Context, topic string, partition int32, offset int64) (Stored, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return Stored{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	if err := exists(ctx, c, topic, partition); err != nil {
		return Stored{}, err
	}
	place := kafka.TopicPartition{Topic: &topic, Partition: partition, Offset: kafka.Offset(offset)}
	if err := c.Assign([]kafka.TopicPartition{place}); err != nil {
		return Stored{}, unavailable(err)
	}
	defer c.Unassign() //nolint:errcheck // the next read assigns anew
	for ctx.Err() == nil {
		switch e := c.Poll(50).(type) {
		case *kafka.Message:
			if e.TopicPartition.Error != nil {
				return Stored{}, readError(e.TopicPartition.Error)
			}
			if *e.TopicPartition.Topic != topic || e.TopicPartition.Partition != partition || int64(e.TopicPartition.Offset) < offset {
				continue
			}
			if int64(e.TopicPartition.Offset) > offset {
				return Stored{}, gone()
			}
			return stored(e), nil
		case kafka.PartitionEOF:
			if *e.Topic == topic && e.Partition == partition && int64(e.Offset) <= offset {
				return Stored{}, gone()
			}
		case kafka.Error:
			if err := readError(e); fault.KindOf(err) == fault.NotFound {
				return Stored{}, err
			}
		}
	}
	return Stored{}, unavailable(ctx.Err())
}

// exists asks for the partition first: the client would wait long for one that might still appear, and a letter that
// names a place which never was must not be taken for trouble that passes.
func exists(ctx context.Context, c *kafka.Consumer, topic string, partition int32) error {
	m, err := c.GetMetadata(&topic, false, millisecondsLeft(ctx))
	if err != nil {
		return unavailable(err)
	}
	t := m.Topics[topic]
	if code := t.Error.Code(); code != kafka.ErrNoError {
		return readError(t.Error)
	}
	for _, p := range t.Partitions {
		if p.ID == partition {
			return nil
		}
	}
	return gone()
}

func millisecondsLeft(ctx context.Context) int {
	wait := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond)
	}
	return int(wait.Milliseconds())
}

func stored(m *kafka.Message) Stored {
	s := Stored{Record: Record{Topic: *m.TopicPartition.Topic, Key: m.Key, Value: m.Value}, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset)}
	for _, h := range m.Headers {
		s.Headers = append(s.Headers, Header{h.Key, h.Value})
	}
	if m.TimestampType != kafka.TimestampNotAvailable {
		s.Timestamp = m.Timestamp.UTC()
	}
	return s
}

func gone() error {
	return fault.New(fault.NotFound, "record_gone", "there is no record at this place")
}

func readError(err error) error {
	var ke kafka.Error
	if errors.As(err, &ke) {
		switch ke.Code() { //nolint:exhaustive // all other codes are trouble that may pass
		case kafka.ErrOffsetOutOfRange, kafka.ErrAutoOffsetReset, kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrUnknownPartition:
			return fault.Wrap(err, fault.NotFound, "record_gone", "there is no record at this place")
		}
	}
	return unavailable(err)
}

// Check reports whether the broker answers; it opens the connection.
func (r *Reader) Check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return err
	}
	topic := "price-events-dlq"
	if _, err := c.GetMetadata(&topic, false, millisecondsLeft(ctx)); err != nil {
		return unavailable(err)
	}
	return nil
}

// Close disconnects.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c != nil {
		_ = r.c.Close() // nothing was committed
		r.c = nil
	}
}

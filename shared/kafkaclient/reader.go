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
)

// Place is where a record is on a topic.
type Place struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Stored is a record as it is stored on a topic. Callers may share its bytes and must not modify them.
type Stored struct {
	Record
	Partition int32
	Offset    int64
	Timestamp time.Time // zero if the record has none
}

// Reader reads single records, without a consumer group. Records are mostly requested in offset
// order, so it reads ahead: one fetch serves many reads. It connects on the first call. Safe for concurrent use; a slow or
// unavailable partition does not delay the others.
type Reader struct {
	config Config
	state  *State

	mu      sync.Mutex
	c       *kafka.Consumer
	closed  bool
	streams map[partition]*stream
	lookups map[string]*lookup // by topic; there are few
	kept    cache
	busy    sync.WaitGroup // calls that use c
}

// NewReader returns a reader. It logs when the brokers cannot be used, and why.
func NewReader(c Config, log *slog.Logger) *Reader {
	return &Reader{config: c, state: NewState(c, log), streams: map[partition]*stream{}, lookups: map[string]*lookup{}, kept: cache{limit: keptBytes}}
}

const (
	readWait   = 5 * time.Second        // timeout of one read, unless the caller's deadline is earlier
	metaWait   = 2 * time.Second        // timeout of one metadata request
	metaAge    = time.Minute            // how long metadata stay valid
	metaAgain  = time.Second            // least time between two requests for a partition that the metadata do not contain
	pollWait   = 100 * time.Millisecond // longest that Close waits for the loop
	fetchBytes = 128 << 10              // of one partition in one fetch; a larger record is still returned
)

// open connects and starts the loop. The caller holds mu.
func (r *Reader) open() (*kafka.Consumer, error) {
	if r.closed {
		return nil, unavailable(errors.New("the reader is closed"))
	}
	if r.c != nil {
		return r.c, nil
	}
	c, err := kafka.NewConsumer(r.config.Map(kafka.ConfigMap{
		"group.id": "marketdata.reader", "enable.auto.commit": false,
		// A missing record shows by the offset of the record that arrives instead. An error would not name the partition.
		"auto.offset.reset": "earliest", "enable.partition.eof": true, "isolation.level": "read_committed",
		"allow.auto.create.topics": false, "enable.metrics.push": false, "go.logs.channel.enable": true,
		"reconnect.backoff.ms": reconnectMillis, "fetch.error.backoff.ms": 20, "topic.metadata.refresh.fast.interval.ms": 50,
		// A fetch that waits for records blocks all other requests to its broker, and no caller here waits for future records.
		"fetch.wait.max.ms": 1,
		// These bound what is fetched ahead per partition; stream bounds it in bytes.
		"queued.min.messages": 1000, "queued.max.messages.kbytes": 512, "fetch.queue.backoff.ms": 5, "fetch.message.max.bytes": fetchBytes,
	}))
	if err != nil {
		return nil, unavailable(fmt.Errorf("open reader: %w", err))
	}
	go func() {
		for range c.Logs() {
			continue // the errors among them are events, too
		}
	}()
	r.c = c
	r.busy.Go(func() { r.loop(c) })
	return c, nil
}

// Read returns the record at a place. NotFound "record_gone" if there is none, or it is gone; Unavailable "broker_unavailable" if the
// broker does not answer.
func (r *Reader) Read(ctx context.Context, at Place) (Stored, error) {
	p, offset := partition{at.Topic, at.Partition}, at.Offset
	r.mu.Lock()
	record, ok := r.kept.get(at)
	r.mu.Unlock()
	if ok {
		return record, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	if err := r.exists(ctx, p); err != nil {
		return Stored{}, err
	}
	err := gone()
	for range 3 { // a record that a run did not find is looked for again: the original of a dead letter must not be missed
		switch within, err := r.within(ctx, p, offset); {
		case err != nil:
			return Stored{}, err
		case !within:
			return Stored{}, gone()
		}
		if record, err = r.await(ctx, p, offset); fault.CodeOf(err) != fault.CodeRecordGone {
			return record, err
		}
		r.doubt(p)
	}
	return Stored{}, err
}

// await waits until the stream reaches the record.
func (r *Reader) await(ctx context.Context, p partition, offset int64) (Stored, error) {
	w, err := r.want(p, offset)
	if err != nil {
		return Stored{}, err
	}
	select {
	case <-w.done:
		return w.record, w.err
	case <-ctx.Done():
		r.forget(p, offset, w)
		return Stored{}, unavailable(context.Cause(ctx))
	}
}

// stream returns the stream of a partition. The caller holds mu.
func (r *Reader) stream(p partition, c *kafka.Consumer) *stream {
	s := r.streams[p]
	if s == nil {
		s = &stream{partition: p, consumer: c, waits: map[int64]*wait{}}
		r.streams[p] = s
	}
	return s
}

// want registers a wait for the record at an offset.
func (r *Reader) want(p partition, offset int64) (*wait, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return nil, err
	}
	if record, ok := r.kept.get(Place{p.topic, p.number, offset}); ok { // it has arrived meanwhile
		w := newWait(0)
		w.resolve(record, nil)
		return w, nil
	}
	return r.stream(p, c).want(offset, time.Now()), nil
}

func (r *Reader) forget(p partition, offset int64, w *wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.refs--; w.refs == 0 && r.streams[p].waits[offset] == w {
		delete(r.streams[p].waits, offset)
	}
}

// loop dispatches the broker's records until the reader is closed.
func (r *Reader) loop(c *kafka.Consumer) {
	for {
		event := c.Poll(int(pollWait.Milliseconds()))
		if err, ok := event.(kafka.Error); ok && err.Code() != kafka.ErrGroupAuthorizationFailed { // the group has a name, but no use
			r.state.Failed(err)
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return
		}
		switch e := event.(type) {
		case *kafka.Message:
			r.message(e)
		case kafka.PartitionEOF:
			if s := r.streams[partition{*e.Topic, e.Partition}]; s != nil {
				s.atEnd(time.Now())
			}
		}
		r.mu.Unlock()
	}
}

func (r *Reader) message(m *kafka.Message) {
	p := partition{*m.TopicPartition.Topic, m.TopicPartition.Partition}
	s := r.streams[p]
	switch {
	case s == nil:
	case m.TopicPartition.Error != nil:
		r.state.Failed(m.TopicPartition.Error)
		s.fail(unavailable(m.TopicPartition.Error))
	default:
		if record := stored(m); s.take(record, time.Now()) {
			r.kept.put(record)
		}
	}
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
	return fault.New(fault.NotFound, fault.CodeRecordGone, "there is no record at this offset")
}

// Check returns a check that the broker answers a metadata request for a topic. It opens the connection, and ends with ctx.
func (r *Reader) Check(topic string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		l, err := r.lookup(topic, func(*lookup) bool { return true })
		if err != nil {
			return err
		}
		select {
		case <-l.done:
			if l.err == nil && len(l.partitions) == 0 {
				return unavailable(fmt.Errorf("the topic %s does not exist", topic))
			}
			return l.err
		case <-ctx.Done():
			return r.state.explain(unavailable(context.Cause(ctx)))
		}
	}
}

// Close disconnects. Reads in flight fail.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	c := r.c
	for _, s := range r.streams {
		s.fail(unavailable(errors.New("the reader is closed")))
	}
	r.mu.Unlock()
	r.busy.Wait()
	if c != nil {
		_ = c.Close() // nothing was committed
	}
}

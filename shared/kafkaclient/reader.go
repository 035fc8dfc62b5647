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

// Stored is a record at its place on a topic. Several readers may share its bytes: they are not to be changed.
type Stored struct {
	Record
	Partition int32
	Offset    int64
	Timestamp time.Time // zero if the record has none
}

// Reader reads single records by their place, without any group. It reads ahead, since records are mostly asked for in the
// order in which they stand: one fetch serves many reads. It connects at the first call. Safe for concurrent use; a partition
// that is slow or away holds up no other.
type Reader struct {
	servers string

	mu      sync.Mutex
	c       *kafka.Consumer
	closed  bool
	streams map[partition]*stream
	lookups map[string]*lookup // by topic: topics are few
	kept    cache
	busy    sync.WaitGroup // calls that use c
}

// NewReader makes a reader for the comma-separated bootstrap servers.
func NewReader(bootstrapServers string) *Reader {
	return &Reader{servers: bootstrapServers, streams: map[partition]*stream{}, lookups: map[string]*lookup{}, kept: cache{limit: keptBytes}}
}

const (
	readWait   = 5 * time.Second        // bounds one read where the caller sets no earlier deadline
	metaWait   = 2 * time.Second        // bounds one question for a topic's partitions
	metaAge    = time.Minute            // how long its answer counts
	metaAgain  = time.Second            // how often at most it is asked for a partition that the answer does not have
	pollWait   = 100 * time.Millisecond // how long Close waits for the loop at most
	fetchBytes = 128 << 10              // of one partition in one fetch; a larger record comes all the same
)

// open connects and starts the loop. The caller holds mu.
func (r *Reader) open() (*kafka.Consumer, error) {
	if r.closed {
		return nil, unavailable(errors.New("the reader is closed"))
	}
	if r.c != nil {
		return r.c, nil
	}
	c, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": r.servers, "group.id": "marketdata.reader", "enable.auto.commit": false,
		// A place that is gone shows by the offsets of what comes instead: as an error it would not say which partition it is.
		"auto.offset.reset": "earliest", "enable.partition.eof": true, "isolation.level": "read_committed",
		"allow.auto.create.topics": false, "enable.metrics.push": false, "go.logs.channel.enable": true,
		"reconnect.backoff.ms": reconnectMillis, "fetch.error.backoff.ms": 20, "topic.metadata.refresh.fast.interval.ms": 50,
		// A fetch that waits for records keeps all other requests to its broker waiting, and nobody waits here for what is not there yet.
		"fetch.wait.max.ms": 1,
		// What is fetched ahead is bounded here by partition, and in stream by bytes.
		"queued.min.messages": 1000, "queued.max.messages.kbytes": 512, "fetch.queue.backoff.ms": 5, "fetch.message.max.bytes": fetchBytes,
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
	r.busy.Go(func() { r.loop(c) })
	return c, nil
}

// Read gives the record at the place. NotFound with code "record_gone" if there is none (any more); Unavailable
// "broker_unavailable" if the broker does not say.
func (r *Reader) Read(ctx context.Context, topic string, number int32, offset int64) (Stored, error) {
	p := partition{topic, number}
	r.mu.Lock()
	record, ok := r.kept.get(p, offset)
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
	for range 3 { // what a run takes for gone is looked at again: a letter's original is not to be missed
		switch within, err := r.within(ctx, p, offset); {
		case err != nil:
			return Stored{}, err
		case !within:
			return Stored{}, gone()
		}
		if record, err = r.await(ctx, p, offset); fault.CodeOf(err) != codeGone {
			return record, err
		}
		r.doubt(p)
	}
	return Stored{}, err
}

// await waits for the stream to come to the record.
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

// stream gives the stream of a partition. The caller holds mu.
func (r *Reader) stream(p partition, c *kafka.Consumer) *stream {
	s := r.streams[p]
	if s == nil {
		s = &stream{partition: p, consumer: c, waits: map[int64]*wait{}}
		r.streams[p] = s
	}
	return s
}

// want says that somebody waits for the record at the place.
func (r *Reader) want(p partition, offset int64) (*wait, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return nil, err
	}
	if record, ok := r.kept.get(p, offset); ok { // it came meanwhile
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

// loop hands out what the broker sends until the reader is closed.
func (r *Reader) loop(c *kafka.Consumer) {
	for {
		event := c.Poll(int(pollWait.Milliseconds()))
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
		s.fail(unavailable(m.TopicPartition.Error))
	default:
		if record := stored(m); s.take(record, time.Now()) {
			r.kept.put(p, record)
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

const codeGone = "record_gone"

func gone() error {
	return fault.New(fault.NotFound, codeGone, "there is no record at this place")
}

// Check returns a check of whether the broker answers a question about a topic. It opens the connection, and ends with ctx.
func (r *Reader) Check(topic string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		l, err := r.ask(topic, func(*lookup) bool { return true })
		if err != nil {
			return err
		}
		select {
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return unavailable(context.Cause(ctx))
		}
	}
}

// Close disconnects; reads under way fail.
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

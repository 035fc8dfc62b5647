// Package kafkasource emulates Knative's KafkaSource: it consumes topics and posts each record as a CloudEvent to a sink,
// with the data plane's attributes, headers, retries, dead letters and offset commits (eventing-kafka-broker, data-plane
// and control-plane). Delivery is at least once.
package kafkasource

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Spec is a KafkaSource with its references resolved.
type Spec struct {
	Name, Namespace  string
	BootstrapServers string
	Topics           []string
	ConsumerGroup    string
	InitialOffset    string            // earliest or latest; used only without committed offsets
	Ordered          bool              // one request at a time for each partition; else unordered
	KeyType          string            // string, int, float or byte-array
	Extensions       map[string]string // spec.ceOverrides.extensions
	Sink             string            // URL
	Delivery         Delivery
	CommitInterval   time.Duration // 0: 5 s, as the data plane
}

// maxInFlight bounds the requests of an unordered source (max.poll.records 50 and the batch before).
const maxInFlight = 100

// Source consumes until closed.
type Source struct {
	spec     Spec
	log      *slog.Logger
	sender   *sender
	consumer *kafka.Consumer
	offsets  *offsets
	assigned chan struct{} // closed at the first assignment
	once     sync.Once

	ctx      context.Context //nolint:containedctx // the life of the deliveries: ended by Close
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	stopped  chan struct{}
	mu       sync.Mutex
	inFlight int
	queues   map[partition]chan struct{} // ordered mode: the turn of each partition
}

// Start begins to consume.
func Start(spec Spec, log *slog.Logger) (*Source, error) {
	if spec.CommitInterval == 0 {
		spec.CommitInterval = 5 * time.Second
	}
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": spec.BootstrapServers, "group.id": spec.ConsumerGroup,
		"auto.offset.reset": spec.InitialOffset, "enable.auto.commit": false, "enable.auto.offset.store": false,
		"isolation.level": "read_committed", "session.timeout.ms": 10_000, "allow.auto.create.topics": false,
		"enable.metrics.push": false, "go.logs.channel.enable": true,
		// librdkafka's patience is for clusters far away; here a first fetch would wait half a second for it.
		"fetch.error.backoff.ms": 20, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 20,
		"topic.metadata.refresh.fast.interval.ms": 50, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500,
		"heartbeat.interval.ms": 1000, "max.poll.interval.ms": 300_000,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{
		spec: spec, log: log.With("source", spec.Name), sender: newSender(spec.Namespace, log), consumer: consumer,
		offsets: newOffsets(), assigned: make(chan struct{}), ctx: ctx, cancel: cancel, stopped: make(chan struct{}),
		queues: map[partition]chan struct{}{},
	}
	if err := consumer.SubscribeTopics(spec.Topics, s.rebalance); err != nil {
		cancel()
		return nil, fmt.Errorf("subscribe %s: %w", spec.Name, err)
	}
	go s.drainLogs()
	go s.poll()
	return s, nil
}

func (s *Source) drainLogs() {
	for {
		select {
		case <-s.consumer.Logs():
		case <-s.stopped:
			return
		}
	}
}

// Ready returns once the group has given this source its partitions.
func (s *Source) Ready(ctx context.Context) error {
	select {
	case <-s.assigned:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("source %s has no partitions yet: %w", s.spec.Name, ctx.Err())
	}
}

// Close stops polling, lets requests under way finish (waits between retries are cut short: those records are delivered
// again), commits what is done, and leaves the group.
func (s *Source) Close() error {
	s.cancel()
	<-s.stopped
	s.workers.Wait()
	s.sender.client.CloseIdleConnections() // one opened but never used would hold up the sink's shutdown for 5 s
	s.commit()
	if err := s.consumer.Close(); err != nil {
		return fmt.Errorf("close consumer of %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *Source) poll() {
	defer close(s.stopped)
	paused, lastCommit := false, time.Now()
	for s.ctx.Err() == nil {
		switch e := s.consumer.Poll(50).(type) {
		case *kafka.Message:
			s.receive(e)
		case kafka.Error:
			s.log.Debug("consumer", "err", e)
		}
		if time.Since(lastCommit) >= s.spec.CommitInterval {
			s.commit()
			lastCommit = time.Now()
		}
		// Polling goes on while nothing is taken in: a consumer that does not poll is thrown out of its group.
		if busy := s.busy(); busy != paused {
			paused = busy
			s.pause(paused)
		}
	}
}

func (s *Source) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight >= maxInFlight
}

func (s *Source) pause(paused bool) {
	parts, err := s.consumer.Assignment()
	if err == nil && paused {
		err = s.consumer.Pause(parts)
	} else if err == nil {
		err = s.consumer.Resume(parts)
	}
	if err != nil {
		s.log.Warn("pause or resume", "err", err)
	}
}

// receive starts the delivery of one record. In ordered mode a record waits for its predecessor of the same partition.
func (s *Source) receive(m *kafka.Message) {
	p := partition{*m.TopicPartition.Topic, m.TopicPartition.Partition}
	offset := int64(m.TopicPartition.Offset)
	g := s.offsets.received(p, offset)
	if g == nil {
		return
	}
	s.mu.Lock()
	s.inFlight++
	before := s.queues[p]
	mine := make(chan struct{})
	s.queues[p] = mine
	s.mu.Unlock()
	s.workers.Go(func() {
		defer func() {
			close(mine)
			s.mu.Lock()
			s.inFlight--
			s.mu.Unlock()
		}()
		if s.spec.Ordered && before != nil {
			<-before
		}
		if s.ctx.Err() != nil {
			return
		}
		if err := s.sender.deliver(s.ctx, FromRecord(record(m), s.spec), s.spec.Sink, s.spec.Delivery); err == nil {
			s.offsets.done(g, offset)
		}
	})
}

func record(m *kafka.Message) Record {
	r := Record{
		Topic: *m.TopicPartition.Topic, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Key: m.Key, Value: m.Value, Timestamp: m.Timestamp,
	}
	if m.TimestampType == kafka.TimestampNotAvailable {
		r.Timestamp = time.UnixMilli(-1)
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{h.Key, h.Value})
	}
	return r
}

func (s *Source) rebalance(c *kafka.Consumer, e kafka.Event) error {
	switch e := e.(type) {
	case kafka.AssignedPartitions:
		for _, tp := range e.Partitions {
			s.offsets.assign(partition{*tp.Topic, tp.Partition})
		}
		if err := c.Assign(e.Partitions); err != nil {
			return fmt.Errorf("assign: %w", err)
		}
		s.once.Do(func() { close(s.assigned) })
	case kafka.RevokedPartitions:
		s.commit()
		for _, tp := range e.Partitions {
			s.offsets.revoke(partition{*tp.Topic, tp.Partition})
		}
		if err := c.Unassign(); err != nil {
			return fmt.Errorf("unassign: %w", err)
		}
	}
	return nil
}

// commit stores each partition's first offset that is not done. A failure is tried again at the next turn: until then
// a crash means redelivery, never loss.
func (s *Source) commit() {
	for p, offset := range s.offsets.commitable() {
		_, err := s.consumer.CommitOffsets([]kafka.TopicPartition{{Topic: &p.topic, Partition: p.id, Offset: kafka.Offset(offset)}})
		if err != nil {
			s.log.Warn("commit", "err", err, "partition", p.id)
			continue
		}
		s.offsets.committed(p, offset)
	}
}

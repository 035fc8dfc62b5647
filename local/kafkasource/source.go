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

// patience is how long a source waits for room before it pauses the consumer. A pause makes librdkafka throw away
// everything that it fetched ahead, so pausing whenever all slots are taken means fetching each record a hundred times.
const patience = 500 * time.Millisecond

// closeGrace is how long requests under way may take once the source closes. What is not answered by then is delivered
// again after the next start.
const closeGrace = 2 * time.Second

// Source consumes until closed.
type Source struct {
	spec     Spec
	log      *slog.Logger
	sender   *sender
	consumer *kafka.Consumer
	offsets  *offsets
	assigned chan struct{} // closed at the first assignment
	once     sync.Once

	ctx     context.Context //nolint:containedctx // the life of the deliveries: ended by Close
	cancel  context.CancelFunc
	workers sync.WaitGroup
	stopped chan struct{}

	// Of the poll loop alone, in which rebalances are served, too.
	lanes  map[partition]*lane // ordered: by partition; unordered: one, under the zero partition
	paused map[partition]bool  // partitions that are paused
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
		// Enough to keep all slots busy between two fetches. The defaults, 100,000 records of a partition and 64 MiB, would
		// fill memory with what a pause throws away.
		"queued.min.messages": 2_000, "queued.max.messages.kbytes": 16 << 10,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{
		spec: spec, log: log.With("source", spec.Name), sender: newSender(spec.Namespace, log), consumer: consumer,
		offsets: newOffsets(), assigned: make(chan struct{}), ctx: ctx, cancel: cancel, stopped: make(chan struct{}),
		lanes: map[partition]*lane{}, paused: map[partition]bool{},
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

// Close stops polling, gives requests under way a moment to finish (waits between retries are cut short), commits what is
// done, and leaves the group. Records that are not done are delivered again.
func (s *Source) Close() error {
	s.cancel()
	<-s.stopped
	abandon := time.AfterFunc(closeGrace, s.sender.abandon)
	s.workers.Wait()
	abandon.Stop()
	s.sender.abandon()
	s.commit()
	if err := s.consumer.Close(); err != nil {
		return fmt.Errorf("close consumer of %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *Source) poll() {
	defer close(s.stopped)
	lastCommit := time.Now()
	for s.ctx.Err() == nil {
		// Polling goes on while partitions are paused: a consumer that does not poll is thrown out of its group.
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
		s.resume()
	}
}

// receive hands one record to its lane. Where that is full afterwards, an unordered source waits for room, and pauses only
// if that takes long; an ordered one pauses the partition at once, since the others must go on.
func (s *Source) receive(m *kafka.Message) {
	if m.TopicPartition.Error != nil { // no record, whatever else it holds
		s.log.Warn("consumer", "err", m.TopicPartition.Error)
		return
	}
	p := partition{*m.TopicPartition.Topic, m.TopicPartition.Partition}
	g := s.offsets.received(p, int64(m.TopicPartition.Offset))
	if g == nil {
		return
	}
	l := s.lane(p)
	if l.push(job{p, g, record(m)}) {
		s.workers.Go(l.run)
	}
	if s.spec.Ordered {
		if l.full() {
			s.pause(kafka.TopicPartition{Topic: &p.topic, Partition: p.id})
		}
	} else if !l.waitForRoom(patience, s.ctx.Done()) {
		all, err := s.consumer.Assignment()
		if err != nil {
			s.log.Warn("assignment", "err", err)
		}
		s.pause(all...)
	}
}

func (s *Source) lane(p partition) *lane {
	width := 1
	if !s.spec.Ordered {
		p, width = partition{}, maxInFlight
	}
	l := s.lanes[p]
	if l == nil {
		l = newLane(width, s.deliver)
		s.lanes[p] = l
	}
	return l
}

func (s *Source) deliver(j job) {
	if j.progress.ctx.Err() != nil {
		return
	}
	ev := FromRecord(j.record, s.spec)
	if name := ev.Unsendable(); name != "" {
		s.log.WarnContext(j.progress.ctx, "a KafkaSource on a cluster would lose this record: an attribute has control characters",
			"attribute", shown(name), "partition", j.part.id, "offset", j.record.Offset)
	}
	if err := s.sender.deliver(j.progress.ctx, ev, s.spec.Sink, s.spec.Delivery); err == nil {
		s.offsets.done(j.progress, j.record.Offset)
	}
}

func (s *Source) pause(parts ...kafka.TopicPartition) {
	if err := s.consumer.Pause(parts); err != nil {
		s.log.Warn("pause", "err", err)
		return
	}
	for _, tp := range parts {
		s.paused[partition{*tp.Topic, tp.Partition}] = true
	}
}

// resume lets partitions go on whose lane has room again.
func (s *Source) resume() {
	var parts []kafka.TopicPartition
	for p := range s.paused {
		if s.lane(p).roomy() {
			parts = append(parts, kafka.TopicPartition{Topic: &p.topic, Partition: p.id})
		}
	}
	if len(parts) == 0 {
		return
	}
	if err := s.consumer.Resume(parts); err != nil {
		s.log.Warn("resume", "err", err)
		return
	}
	for _, tp := range parts {
		delete(s.paused, partition{*tp.Topic, tp.Partition})
	}
}

func record(m *kafka.Message) Record {
	r := Record{
		Topic: *m.TopicPartition.Topic, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Key: m.Key, Value: m.Value, Timestamp: m.Timestamp,
	}
	if m.TimestampType == kafka.TimestampNotAvailable {
		r.Timestamp = time.UnixMilli(-1)
	}
	if len(m.Headers) > 0 {
		r.Headers = make([]Header, len(m.Headers))
		for i, h := range m.Headers {
			r.Headers[i] = Header{h.Key, h.Value}
		}
	}
	return r
}

func (s *Source) rebalance(c *kafka.Consumer, e kafka.Event) error {
	switch e := e.(type) {
	case kafka.AssignedPartitions:
		for _, tp := range e.Partitions {
			s.offsets.assign(s.ctx, partition{*tp.Topic, tp.Partition})
		}
		if err := c.Assign(e.Partitions); err != nil {
			return fmt.Errorf("assign: %w", err)
		}
		s.once.Do(func() { close(s.assigned) })
	case kafka.RevokedPartitions:
		s.commit()
		for _, tp := range e.Partitions {
			p := partition{*tp.Topic, tp.Partition}
			s.offsets.revoke(p)
			s.lane(p).drop(p)
			if s.spec.Ordered {
				delete(s.lanes, p)
			}
		}
		if len(s.paused) > 0 { // whoever gets them next, perhaps we ourselves, begins unpaused
			if err := c.Resume(e.Partitions); err != nil {
				s.log.Warn("resume", "err", err)
			}
			clear(s.paused)
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
	var all []kafka.TopicPartition
	for p, offset := range s.offsets.commitable() {
		all = append(all, kafka.TopicPartition{Topic: &p.topic, Partition: p.id, Offset: kafka.Offset(offset)})
	}
	if len(all) == 0 {
		return
	}
	stored, err := s.consumer.CommitOffsets(all)
	if err != nil {
		s.log.Warn("commit", "err", err)
		return
	}
	for _, tp := range stored {
		if tp.Error != nil {
			s.log.Warn("commit", "err", tp.Error, "topic", *tp.Topic, "partition", tp.Partition)
			continue
		}
		s.offsets.committed(partition{*tp.Topic, tp.Partition}, int64(tp.Offset))
	}
}

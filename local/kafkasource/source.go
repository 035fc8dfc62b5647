// Package kafkasource emulates Knative's KafkaSource: it consumes topics and posts each record as a CloudEvent to a sink, with the
// attributes, headers, retries, dead letters and offset commits of the data plane (eventing-kafka-broker, data-plane and
// control-plane). Delivery is at least once.
package kafkasource

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/trace"
)

// Spec is a KafkaSource with its references resolved.
type Spec struct {
	Name, Namespace string
	Kafka           kafkaclient.Config
	Topics          []string
	ConsumerGroup   string
	ClientID        string            // of this consumer alone, for good: the next one that has it removes a dead one from the group; empty: none
	InitialOffset   string            // earliest or latest; used for partitions without a committed offset
	Ordered         bool              // one request at a time for each partition
	KeyType         string            // string, int, float or byte-array
	Extensions      map[string]string // spec.ceOverrides.extensions
	Sink            string            // URL
	Delivery        Delivery
	CommitInterval  time.Duration // 0: 5 s, as in the data plane
	Tracing         *trace.Tracing
	Metrics         *vm.Set // nil: nobody reads them
}

// A batch of records is what one poll of the data plane's consumer returns at most. A batch of large records ends earlier, so that
// memory stays bounded.
const (
	maxPollRecords = 50
	maxBatchBytes  = 1 << 20
)

// maxInFlight is the largest number of requests in flight of an unordered source (max.poll.records 50, and the batch before).
const maxInFlight = 100

// patience is how long a source waits for a free slot before it pauses the consumer. A pause makes librdkafka discard its prefetched
// records, so pausing whenever all slots are taken would fetch each record a hundred times.
const patience = 500 * time.Millisecond

// closeGrace is how long requests in flight may take once the source closes. Records without a response by then are redelivered
// after the next start.
const closeGrace = 2 * time.Second

// Source consumes until closed.
type Source struct {
	spec     Spec
	log      *slog.Logger
	sender   *sender
	consumer *kafka.Consumer
	state    *kafkaclient.State
	offsets  *offsets
	ready    chan struct{} // closed once there is an assignment, and an offset of each of its partitions

	ctx     context.Context //nolint:containedctx // of the deliveries; ended by Close
	cancel  context.CancelFunc
	workers sync.WaitGroup
	stopped chan struct{}

	// Used by the poll loop alone, which also handles rebalances.
	lanes  map[partition]*lane // ordered: by partition; unordered: one, under the zero partition
	paused map[partition]bool
	// The rest is about the initial offset latest.
	initialized bool
	uncommitted []kafka.TopicPartition // partitions of the first assignment whose offset is not committed yet

	isPaused atomic.Bool  // some of its partitions are
	decimals atomic.Int64 // structured events whose numbers may have lost digits
}

// Start starts a source.
func Start(spec Spec, log *slog.Logger) (*Source, error) {
	if spec.CommitInterval == 0 {
		spec.CommitInterval = 5 * time.Second
	}
	if spec.Metrics == nil {
		spec.Metrics = vm.NewSet()
	}
	config := kafka.ConfigMap{
		"group.id": spec.ConsumerGroup,
		// Whatever the initial offset: partitions that a topic gets later are read from their beginning
		// (100-config-kafka-source-data-plane.yaml).
		"auto.offset.reset": "earliest", "enable.auto.commit": false, "enable.auto.offset.store": false,
		"isolation.level": "read_committed", "session.timeout.ms": 10_000, "allow.auto.create.topics": false,
		"enable.metrics.push": false, "go.logs.channel.enable": true,
		// librdkafka's defaults suit remote clusters; with them the first fetch would take half a second longer.
		"fetch.error.backoff.ms": 20, "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 20,
		"topic.metadata.refresh.fast.interval.ms": 50, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500,
		"heartbeat.interval.ms": 1000, "max.poll.interval.ms": 300_000,
		// Enough to keep all slots busy between two fetches. The defaults, 100,000 records of a partition and 64 MiB, would fill
		// memory with records that a pause discards.
		"queued.min.messages": 2_000, "queued.max.messages.kbytes": 16 << 10,
	}
	if spec.ClientID != "" {
		config["client.id"] = spec.ClientID
		removeDead(spec, log)
	}
	consumer, err := kafka.NewConsumer(spec.Kafka.Map(config))
	if err != nil {
		return nil, fmt.Errorf("create consumer of %s: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{
		spec: spec, log: log.With("source", spec.Name), sender: newSender(spec.Namespace, log, newMetrics(spec.Metrics, spec.Name)), consumer: consumer,
		state:   kafkaclient.NewState(spec.Kafka, log.With("source", spec.Name)),
		offsets: newOffsets(), ready: make(chan struct{}), ctx: ctx, cancel: cancel, stopped: make(chan struct{}),
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

// Ready returns once the consumer group has assigned partitions to this source. Every record produced from then on is delivered,
// whatever the initial offset.
func (s *Source) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("source %s has no partitions yet: %w", s.spec.Name, ctx.Err())
	}
}

// Close stops polling, gives requests in flight a short time to finish (waits between retries are cut short), commits offsets, and
// leaves the group. Records that are not done are redelivered.
func (s *Source) Close() error {
	s.cancel()
	<-s.stopped
	abandon := time.AfterFunc(closeGrace, s.sender.abandon)
	s.workers.Wait()
	abandon.Stop()
	s.sender.abandon()
	s.commit()
	if n := s.decimals.Load(); n > 1 {
		s.log.Warn("structured events with numbers that were encoded again", "events", n)
	}
	if err := s.consumer.Close(); err != nil {
		return fmt.Errorf("close consumer of %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *Source) poll() {
	defer close(s.stopped)
	lastCommit := time.Now()
	for s.ctx.Err() == nil {
		s.dispatch(s.batch())
		if time.Since(lastCommit) >= s.spec.CommitInterval {
			if len(s.uncommitted) > 0 {
				s.initOffsets()
			}
			s.commit()
			lastCommit = time.Now()
		}
		s.resume()
		s.isPaused.Store(len(s.paused) > 0)
	}
}

// batch polls for records. It is called while partitions are paused, too: the group evicts a consumer that does not poll.
func (s *Source) batch() []job {
	var jobs []job
	for size, wait := 0, 50; len(jobs) < maxPollRecords && size < maxBatchBytes; wait = 0 {
		switch e := s.consumer.Poll(wait).(type) {
		case *kafka.Message:
			if j, ok := s.receive(e); ok {
				jobs, size = append(jobs, j), size+j.bytes()
			}
		case kafka.Error:
			s.state.Failed(e)
		case nil:
			return jobs
		}
	}
	return jobs
}

// receive returns the job of a message. ok is false if it is not a record, or one of a partition that is not assigned any more.
func (s *Source) receive(m *kafka.Message) (j job, ok bool) {
	if m.TopicPartition.Error != nil {
		s.state.Failed(m.TopicPartition.Error)
		return job{}, false
	}
	s.state.Worked()
	p := partition{*m.TopicPartition.Topic, m.TopicPartition.Partition}
	g := s.offsets.received(p, int64(m.TopicPartition.Offset), written(m))
	return job{p, g, record(m)}, g != nil
}

// dispatch passes records to their lanes. If the lane is full then, an unordered source waits for room, and pauses only if that takes
// too long. An ordered source pauses the partition at once, so that the others continue.
func (s *Source) dispatch(batch []job) {
	for _, j := range s.survivors(batch) {
		if j.progress.ctx.Err() != nil { // revoked while the batch was polled
			continue
		}
		l := s.lane(j.part)
		if l.push(j) {
			s.workers.Go(l.run)
		}
		switch {
		case s.spec.Ordered:
			if l.full() {
				s.pause(kafka.TopicPartition{Topic: &j.part.topic, Partition: j.part.id})
			}
		case len(s.paused) == 0 && !l.waitForRoom(patience, s.ctx.Done()):
			all, err := s.consumer.Assignment()
			if err != nil {
				s.log.Warn("could not read the assignment", "err", err)
			}
			s.pause(all...)
		}
	}
}

// survivors returns the records of a batch that the data plane delivers. A header with a null value in a plain record makes its
// InvalidCloudEventInterceptor fail; Kafka's client (ConsumerInterceptors) then returns the records of the poll as they were before
// it, and RecordDispatcherImpl discards and commits each plain one among them.
func (s *Source) survivors(batch []job) []job {
	isPlain := func(j job) bool { _, ok := cloudEvent(j.record); return !ok }
	culprit := slices.IndexFunc(batch, func(j job) bool { return nullHeader(j.record) != "" && isPlain(j) })
	if culprit < 0 {
		return batch
	}
	bad := batch[culprit]
	var kept []job
	for _, j := range batch {
		if isPlain(j) {
			s.offsets.done(j.progress, j.record.Offset)
		} else {
			kept = append(kept, j)
		}
	}
	s.log.Error("records lost, as on a cluster: a header with a null value makes a KafkaSource discard the plain records of the whole poll",
		"lost_records", len(batch)-len(kept), "header", shown(nullHeader(bad.record)), "topic", bad.part.topic, "partition", bad.part.id,
		"offset", bad.record.Offset)
	return kept
}

// nullHeader returns the name of a header with a null value, or "" if there is none.
func nullHeader(r Record) string {
	for _, h := range r.Headers {
		if h.Value == nil {
			return orElse(h.Name, "(no name)")
		}
	}
	return ""
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
	if ev.Decimals && s.decimals.Add(1) == 1 {
		s.log.WarnContext(j.progress.ctx, "a KafkaSource encodes the JSON data of structured events again: 1.10 becomes 1.1, and digits "+
			"beyond 17 are lost. Producers of prices should use binary mode. Logged once for each source; Close logs the number of events",
			"partition", j.part.id, "offset", j.record.Offset)
	}
	if name := ev.Unsendable(); name != "" {
		s.log.WarnContext(j.progress.ctx, "a KafkaSource on a cluster would lose this record: an attribute has control characters",
			"attribute", shown(name), "partition", j.part.id, "offset", j.record.Offset)
	}
	ctx, span := s.trace(j, ev)
	err := s.sender.deliver(ctx, ev, s.spec.Sink, s.spec.Delivery)
	if span.End(err); err == nil {
		s.offsets.done(j.progress, j.record.Offset)
		if j.record.Timestamp.Unix() > 0 { // a broker may not have one
			s.sender.metrics.delay.Update(time.Since(j.record.Timestamp).Seconds())
		}
	}
}

// trace begins the span of a delivery. As in the data plane, a record without a trace begins none.
func (s *Source) trace(j job, ev Event) (context.Context, trace.Span) {
	if s.spec.Tracing == nil || !trace.Usable(ev.Traceparent) {
		return j.progress.ctx, trace.Span{}
	}
	ctx, span := s.spec.Tracing.Start(j.progress.ctx, trace.Consumer, ev.Traceparent, "process", j.part.topic)
	span.Text("messaging.system", "kafka")
	span.Text("messaging.operation.type", "process")
	span.Text("messaging.destination.name", j.part.topic)
	span.Text("messaging.destination.partition.id", strconv.Itoa(int(j.part.id)))
	span.Int("messaging.kafka.offset", int(j.record.Offset))
	span.Text("messaging.consumer.group.name", s.spec.ConsumerGroup)
	return ctx, span
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

package kafkasource

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// partition identifies a partition.
type partition struct {
	topic string
	id    int32
}

// offsets tracks the records in flight of the assigned partitions, and so the offset to commit for each partition: the first one
// that is not done (OffsetManager). It forgets done records at once, so that memory does not grow while one record fails for hours
// and others overtake it.
type offsets struct {
	mu    sync.Mutex
	parts map[partition]*progress
	delay time.Duration // of the record that was done last
}

// progress is one assignment of a partition.
type progress struct {
	ctx       context.Context //nolint:containedctx // ends with the assignment, or with the source
	end       context.CancelFunc
	pending   map[int64]time.Time // received and not done, with the broker's times
	next      int64               // the offset after the newest record received; -1: none yet
	committed int64
}

func newOffsets() *offsets { return &offsets{parts: map[partition]*progress{}} }

// assign begins an assignment of a partition. Its deliveries end with the assignment, or with ctx.
func (o *offsets) assign(ctx context.Context, p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &progress{next: -1, committed: -1, pending: map[int64]time.Time{}}
	g.ctx, g.end = context.WithCancel(ctx)
	o.parts[p] = g
}

// revoke ends the assignment of a partition, because another consumer now delivers its records. Later results are ignored, and waits
// between retries are cut short.
func (o *offsets) revoke(p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.end()
		delete(o.parts, p)
	}
}

// received adds a record, and returns the progress to pass to done; nil if the partition is not assigned (any more).
func (o *offsets) received(p partition, offset int64, at time.Time) *progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.parts[p]
	if g == nil {
		return nil
	}
	g.pending[offset] = at
	g.next = offset + 1
	return g
}

// done marks a record as done.
func (o *offsets) done(g *progress, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, pending := g.pending[offset]; pending {
		o.delay = max(time.Since(at), 0)
	}
	delete(g.pending, offset)
}

// commitable returns the offset to commit of each partition whose offset has changed since the last call of committed. It is the
// lowest pending offset, so offsets that the log skips (transaction markers, compaction) do not block it.
func (o *offsets) commitable() map[partition]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[partition]int64{}
	for p, g := range o.parts {
		if first := g.first(); first != g.committed && first > 0 {
			out[p] = first
		}
	}
	return out
}

// first returns the offset of the first record that is not done; -1: no record was received yet.
func (g *progress) first() int64 {
	first := g.next
	for offset := range g.pending {
		first = min(first, offset)
	}
	return first
}

// written returns the broker's time of a record; now if it has none.
func written(m *kafka.Message) time.Time {
	if m.TimestampType == kafka.TimestampNotAvailable {
		return time.Now()
	}
	return m.Timestamp
}

// Status says how far a source is behind its topics.
type Status struct {
	Waiting int64 // records that are not done, of the partitions that it has
	// Delay is how old the record was that was done last, or how old the oldest is that is not done, whichever is more.
	Delay time.Duration
}

// Status returns how far the source is behind, as far as it knows from the broker's last answers.
func (s *Source) Status() Status {
	out, _ := s.offsets.status(time.Now())
	out.Waiting = 0
	for _, records := range s.Lag() {
		out.Waiting += records
	}
	return out
}

// status returns what is received and not done, and for each partition the offset of the record that is received next.
func (o *offsets) status(now time.Time) (out Status, next map[partition]int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out.Delay, next = o.delay, map[partition]int64{}
	for p, g := range o.parts {
		out.Waiting += int64(len(g.pending))
		for _, at := range g.pending {
			out.Delay = max(out.Delay, now.Sub(at))
		}
		if g.next >= 0 {
			next[p] = g.next
		}
	}
	return out, next
}

// committed records an offset that the broker has stored.
func (o *offsets) committed(p partition, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.committed = offset
	}
}

// brokerTimeoutMs is the timeout of a request to the broker, in milliseconds.
const brokerTimeoutMs = 2000

// startAtEnds is for the first assignment if the initial offset is latest: it sets the offset of partitions without a committed one to
// where they end now. initOffsets then commits these.
func (s *Source) startAtEnds(parts []kafka.TopicPartition) {
	if s.spec.InitialOffset != "latest" || s.initialized {
		return
	}
	for {
		err := s.lookUpEnds(parts)
		if err == nil || sleep(s.ctx, 200*time.Millisecond) != nil {
			return
		}
		s.log.Warn("could not look up where the partitions end, will retry", "err", err)
	}
}

func (s *Source) lookUpEnds(parts []kafka.TopicPartition) error {
	committed, err := s.consumer.Committed(parts, brokerTimeoutMs)
	if err != nil {
		return err
	}
	s.uncommitted = nil
	for i, tp := range committed {
		if tp.Offset >= 0 {
			continue
		}
		_, end, err := s.consumer.QueryWatermarkOffsets(*tp.Topic, tp.Partition, brokerTimeoutMs)
		if err != nil {
			return err
		}
		parts[i].Offset = kafka.Offset(end)
		s.uncommitted = append(s.uncommitted, parts[i])
	}
	return nil
}

// initOffsets makes the source ready. Before, it commits the offsets of startAtEnds, as the control plane does for a KafkaSource
// (control-plane, kafka/offset InitOffsets): otherwise a restart before the first commit would start at the new ends, and miss the
// records in between.
func (s *Source) initOffsets() {
	if len(s.uncommitted) > 0 {
		stored, err := s.consumer.CommitOffsets(s.uncommitted)
		for _, tp := range stored {
			err = errors.Join(err, tp.Error)
		}
		if err != nil {
			s.log.Warn("could not initialize the offsets, will retry", "err", err)
			return
		}
		s.uncommitted = nil
	}
	if !s.initialized {
		s.initialized = true
		close(s.ready)
	}
}

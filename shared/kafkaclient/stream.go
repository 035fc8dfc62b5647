package kafkaclient

import (
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// partition names one partition of a topic.
type partition struct {
	topic  string
	number int32
}

// assigner is the subset of [kafka.Consumer] that a stream uses.
type assigner interface {
	IncrementalAssign(places []kafka.TopicPartition) error
	IncrementalUnassign(places []kafka.TopicPartition) error
}

// Limits of reading ahead.
const (
	aheadLeast = 64 << 10  // bytes of a first run: it may be for a single record
	aheadMost  = 512 << 10 // bytes of a run that continues where the last one ended; each reads twice as much as the one before
	reach      = 1000      // offsets: a record at most this far behind the last run is reached by continuing it
)

// stream reads one partition in runs. A run begins at the lowest requested offset and ends after a number of bytes, or at the end
// of the partition. The partition is unassigned between runs, so that nothing is fetched without a request. All calls hold the
// Reader's mutex.
type stream struct {
	partition

	consumer assigner
	waits    map[int64]*wait // by offset

	running    bool
	run        int   // number of the run
	from, next int64 // of the run: its first offset, and the next one
	bytes      int   // of the run, so far
	ahead      int   // bytes that the run reads
	tail       int64 // where the last run ended; 0 before the first
	moved      time.Time

	bounds *bounds // the last request
}

// wait is for one record. done is closed once record or err is set.
type wait struct {
	done   chan struct{}
	record Stored
	err    error
	refs   int // callers
	run    int // the run when the record was requested, or the last one before
}

func newWait(run int) *wait { return &wait{done: make(chan struct{}), refs: 1, run: run} }

func (w *wait) resolve(record Stored, err error) {
	w.record, w.err = record, err
	close(w.done)
}

// want returns the wait for an offset, and starts a run if there is none. It restarts a run without progress for readWait.
func (s *stream) want(offset int64, now time.Time) *wait {
	w := s.waits[offset]
	if w != nil {
		w.refs++
	} else {
		w = newWait(s.run)
		s.waits[offset] = w
	}
	if s.running && now.Sub(s.moved) > readWait {
		s.stop()
	}
	if !s.running {
		s.start(now)
	}
	return w
}

// start begins a run at the lowest requested offset, or where the last run ended if that is at most reach before it: otherwise,
// records that are requested slightly out of order would need a run each.
func (s *stream) start(now time.Time) {
	first := true
	var lowest int64
	for offset := range s.waits {
		if first || offset < lowest {
			first, lowest = false, offset
		}
	}
	if first {
		return
	}
	s.from, s.ahead = lowest, max(aheadLeast, min(2*s.ahead, aheadMost))
	if s.tail > 0 && lowest >= s.tail && lowest-s.tail <= reach {
		s.from = s.tail
	} else {
		s.ahead = aheadLeast
	}
	s.running, s.next, s.bytes, s.moved = true, s.from, 0, now
	s.run++
	if err := s.consumer.IncrementalAssign(s.places()); err != nil {
		s.fail(unavailable(err))
	}
}

func (s *stream) places() []kafka.TopicPartition {
	return []kafka.TopicPartition{{Topic: &s.topic, Partition: s.number, Offset: kafka.Offset(s.from)}}
}

// take handles one record of the partition, and reports whether it belongs to the run.
func (s *stream) take(record Stored, now time.Time) bool {
	switch {
	case !s.running, record.Offset >= s.from && record.Offset < s.next:
		return false
	case record.Offset < s.from: // the client restarted at the partition's first record: from is beyond the end
		s.atEnd(now)
		return false
	}
	for offset, w := range s.waits {
		if offset >= s.next && offset < record.Offset {
			s.answer(offset, w, Stored{}, gone()) // a gap: compacted, expired or not committed
		}
	}
	if w := s.waits[record.Offset]; w != nil {
		s.answer(record.Offset, w, record, nil)
	}
	s.next, s.moved = record.Offset+1, now
	if s.bytes += record.size(); s.bytes >= s.ahead && !s.worthContinuing() {
		s.stop()
		s.start(now)
	}
	return true
}

// worthContinuing reports whether a requested record is within reach, and none is behind the run.
func (s *stream) worthContinuing() bool {
	soon := false
	for offset := range s.waits {
		if offset < s.next {
			return false
		}
		soon = soon || offset-s.next <= reach
	}
	return soon
}

// atEnd ends the run at the end of the partition. Records that were requested before the run began do not exist; later ones may
// have been written meanwhile and get a run of their own.
func (s *stream) atEnd(now time.Time) {
	if !s.running {
		return
	}
	for offset, w := range s.waits {
		if offset >= s.next && w.run < s.run {
			s.answer(offset, w, Stored{}, gone())
		}
	}
	s.stop()
	s.start(now)
}

func (s *stream) answer(offset int64, w *wait, record Stored, err error) {
	w.resolve(record, err)
	delete(s.waits, offset)
}

// stop unassigns the partition.
func (s *stream) stop() {
	if s.running {
		s.running, s.tail = false, s.next
		_ = s.consumer.IncrementalUnassign(s.places()) // fails only if nothing is assigned
	}
}

// fail ends the run and all waits with err.
func (s *stream) fail(err error) {
	s.stop()
	for offset, w := range s.waits {
		s.answer(offset, w, Stored{}, err)
	}
}

// size returns the approximate size of a record in memory.
func (s Stored) size() int {
	n := 512 + len(s.Key) + len(s.Value)
	for _, h := range s.Headers {
		n += 64 + len(h.Name) + len(h.Value)
	}
	return n
}

// keptBytes bounds the records that a Reader keeps after reading ahead.
const keptBytes = 4 << 20

// cache keeps the last records read, up to limit bytes. It does not keep a record of more than a quarter of that.
type cache struct {
	limit, bytes int
	records      map[Place]Stored
	order        []Place // oldest first
}

func (c *cache) get(at Place) (Stored, bool) {
	record, ok := c.records[at]
	return record, ok
}

func (c *cache) put(record Stored) {
	at := Place{record.Topic, record.Partition, record.Offset}
	if _, ok := c.records[at]; ok || record.size() > c.limit/4 {
		return
	}
	if c.records == nil {
		c.records = map[Place]Stored{}
	}
	c.records[at] = record
	c.order = append(c.order, at)
	for c.bytes += record.size(); c.bytes > c.limit; {
		c.bytes -= c.records[c.order[0]].size()
		delete(c.records, c.order[0])
		c.order = c.order[1:]
	}
}

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

// assigner is what a stream needs of [kafka.Consumer].
type assigner interface {
	IncrementalAssign(places []kafka.TopicPartition) error
	IncrementalUnassign(places []kafka.TopicPartition) error
}

// How far a stream reads ahead of what is asked for.
const (
	aheadLeast = 64 << 10  // bytes of a first run: the record may be a lone one
	aheadMost  = 512 << 10 // bytes of a run that goes on where the last one ended: each reads twice as much as the one before
	reach      = 1000      // offsets: a record this close behind the last run is reached by reading on
)

// stream reads one partition in runs. A run begins at the first record that is asked for and goes on for a number of bytes, or
// to the partition's end; then the partition is given back, so that nothing is fetched that nobody wants. All calls hold the
// Reader's mutex.
type stream struct {
	partition

	consumer assigner
	waits    map[int64]*wait // by offset

	running    bool
	run        int   // number of the run
	from, next int64 // of the run: its first offset, and the one that comes next
	bytes      int   // of the run, so far
	ahead      int   // bytes that the run reads
	tail       int64 // where the last run ended; 0: there was none
	moved      time.Time

	bounds *bounds // as they were asked for last
}

// wait is for one record. done is closed once record or err is set.
type wait struct {
	done   chan struct{}
	record Stored
	err    error
	refs   int // callers
	run    int // the run that was under way, or the last one before, when the record was asked for
}

func newWait(run int) *wait { return &wait{done: make(chan struct{}), refs: 1, run: run} }

func (w *wait) resolve(record Stored, err error) {
	w.record, w.err = record, err
	close(w.done)
}

// want gives the wait for an offset, and starts a run if there is none. A run that has shown nothing for long is begun anew.
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

// start begins a run at the lowest offset that is asked for, or where the last run ended if that is close before it: then
// records that are asked for a little out of their order do not make a run each.
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

// take handles one record of the partition and reports whether it belongs to the run.
func (s *stream) take(record Stored, now time.Time) bool {
	switch {
	case !s.running, record.Offset >= s.from && record.Offset < s.next:
		return false
	case record.Offset < s.from: // the client began at the partition's first record: the run's first offset is beyond its end
		s.atEnd(now)
		return false
	}
	for offset, w := range s.waits {
		if offset >= s.next && offset < record.Offset {
			s.answer(offset, w, Stored{}, gone()) // a gap: compacted, expired or never committed
		}
	}
	if w := s.waits[record.Offset]; w != nil {
		s.answer(record.Offset, w, record, nil)
	}
	s.next, s.moved = record.Offset+1, now
	if s.bytes += record.size(); s.bytes >= s.ahead && !s.worthGoingOn() {
		s.stop()
		s.start(now)
	}
	return true
}

// worthGoingOn reports whether what is asked for comes soon, and nothing that the run has passed.
func (s *stream) worthGoingOn() bool {
	soon := false
	for offset := range s.waits {
		if offset < s.next {
			return false
		}
		soon = soon || offset-s.next <= reach
	}
	return soon
}

// atEnd ends the run: beyond its last record there is nothing. That is true of records asked for before the run began; others
// may have been written since, and get a run of their own.
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

// stop gives the partition back.
func (s *stream) stop() {
	if s.running {
		s.running, s.tail = false, s.next
		_ = s.consumer.IncrementalUnassign(s.places()) // it fails only where nothing is assigned
	}
}

// fail ends the run and gives err to all that wait.
func (s *stream) fail(err error) {
	s.stop()
	for offset, w := range s.waits {
		s.answer(offset, w, Stored{}, err)
	}
}

// size is about what a record takes in memory.
func (s Stored) size() int {
	n := 512 + len(s.Key) + len(s.Value)
	for _, h := range s.Headers {
		n += 64 + len(h.Name) + len(h.Value)
	}
	return n
}

// keptBytes bounds what a Reader keeps of what it has read ahead.
const keptBytes = 4 << 20

// cache keeps the records that were read last, up to a number of bytes. A record that alone is larger is not kept.
type cache struct {
	limit, bytes int
	records      map[spot]Stored
	order        []spot // oldest first
}

type spot struct {
	partition

	offset int64
}

func (c *cache) get(p partition, offset int64) (Stored, bool) {
	record, ok := c.records[spot{p, offset}]
	return record, ok
}

func (c *cache) put(p partition, record Stored) {
	at := spot{p, record.Offset}
	if _, ok := c.records[at]; ok || record.size() > c.limit/4 {
		return
	}
	if c.records == nil {
		c.records = map[spot]Stored{}
	}
	c.records[at] = record
	c.order = append(c.order, at)
	for c.bytes += record.size(); c.bytes > c.limit; {
		c.bytes -= c.records[c.order[0]].size()
		delete(c.records, c.order[0])
		c.order = c.order[1:]
	}
}

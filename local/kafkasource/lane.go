package kafkasource

import (
	"slices"
	"sync"
	"time"
)

// job is one record to deliver.
type job struct {
	part     partition
	progress *progress
	record   Record
}

func (j job) bytes() int { return len(j.record.Key) + len(j.record.Value) }

// lane delivers records in the order in which they come, so many at a time. An unordered source has one lane for all its
// partitions; an ordered one has a lane for each, one record wide, so that a record that fails holds up its partition alone.
type lane struct {
	width   int       // deliveries at a time
	deliver func(job) // blocks until the record is done with

	mu      sync.Mutex
	waiting []job
	running int
	bytes   int           // of all records held, waiting or under way
	moved   chan struct{} // has a token once something has left; only the poll loop waits for it
}

const (
	maxWaiting = 100      // records that a lane holds beside those under way
	maxBytes   = 32 << 20 // of keys and values that a lane holds
)

func newLane(width int, deliver func(job)) *lane {
	return &lane{width: width, deliver: deliver, moved: make(chan struct{}, 1)}
}

// push takes a job in. start is true if the caller must run the lane in one more goroutine.
func (l *lane) push(j job) (start bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, j)
	l.bytes += j.bytes()
	if start = l.running < l.width; start {
		l.running++
	}
	return start
}

// run delivers until nothing waits.
func (l *lane) run() {
	for {
		j, ok := l.next()
		if !ok {
			return
		}
		l.deliver(j)
		l.mu.Lock()
		l.bytes -= j.bytes()
		l.mu.Unlock()
	}
}

func (l *lane) next() (j job, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.moved <- struct{}{}:
	default:
	}
	if len(l.waiting) == 0 {
		l.running--
		return job{}, false
	}
	j, l.waiting[0] = l.waiting[0], job{} // what has left must not be kept alive by the slice
	l.waiting = l.waiting[1:]
	return j, true
}

// drop forgets what waits of a partition: an executor that is stopped clears its queue.
func (l *lane) drop(p partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(j job) bool {
		if j.part != p {
			return false
		}
		l.bytes -= j.bytes()
		return true
	})
}

// full reports a lane that takes no more for now.
func (l *lane) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) >= maxWaiting || l.bytes >= maxBytes
}

// roomy reports a lane that has room for a good many again.
func (l *lane) roomy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) <= maxWaiting/2 && l.bytes <= maxBytes/2
}

// waitForRoom returns true once the lane is not full, false if that takes longer than the time given or stop is closed.
func (l *lane) waitForRoom(patience time.Duration, stop <-chan struct{}) bool {
	if !l.full() {
		return true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for l.full() {
		select {
		case <-l.moved:
		case <-timer.C:
			return false
		case <-stop:
			return false
		}
	}
	return true
}

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

// lane delivers records in the order of their arrival, up to width at a time. An unordered source has one lane for all of its
// partitions. An ordered source has a lane of width 1 for each partition, so that a record that fails blocks only its partition.
type lane struct {
	width   int       // deliveries at a time
	deliver func(job) // blocks until the record is done

	mu      sync.Mutex
	waiting []job
	running int
	bytes   int           // of all records that wait or are in flight
	moved   chan struct{} // has a token once a record has left the queue; only the poll loop waits for it
}

const (
	maxWaiting = 100      // records that wait in a lane
	maxBytes   = 32 << 20 // keys and values of a lane, waiting or in flight
)

func newLane(width int, deliver func(job)) *lane {
	return &lane{width: width, deliver: deliver, moved: make(chan struct{}, 1)}
}

// push adds a job. If start is true, the caller must call run in another goroutine.
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

// run delivers jobs until none waits.
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
	j, l.waiting[0] = l.waiting[0], job{} // clear it, so that the slice does not keep it alive
	l.waiting = l.waiting[1:]
	return j, true
}

// drop removes the waiting records of a partition: the data plane's executor clears its queue when it stops, too.
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

// full reports whether the lane has reached a limit.
func (l *lane) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) >= maxWaiting || l.bytes >= maxBytes
}

// roomy reports whether the lane is at most half full.
func (l *lane) roomy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) <= maxWaiting/2 && l.bytes <= maxBytes/2
}

// waitForRoom returns true once the lane is not full, or false after patience or when stop is closed.
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

package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Offered says what became of requests that were due at a rate.
type Offered struct {
	Sent     int
	NotSent  int // due while as many as permitted were in flight
	Admitted int // answers with a status below 300, 404 or 409
	Hits     int // those of them that came from a cache
	Stale    int // those of them with 404 or 409: what the request is about has gone, or was changed before
	P50, P99 time.Duration
	Refused  int            // answers 429 and 503 that say when to come back
	HungUp   int            // requests that were sent while the server closed their connection, which had been idle
	Other    map[string]int // all else, by what it was
	Drained  time.Duration  // from the end of the offer to the last answer
	CPU      time.Duration  // that this process took for it
}

// Offer sends requests at a rate for the time d, whether or not earlier ones are answered: request i is due i/rate after the start. At
// most that many are in flight; one that is due beyond them is not sent. next is that of [Load]. Latencies count from when a request was
// given to a connection, which may have to connect first.
func Offer(ctx context.Context, target string, most int, rate float64, d time.Duration, next func(i int) []byte) (Offered, error) {
	if _, err := New(target); err != nil {
		return Offered{}, err
	}
	c := &callers{target: target, most: most, next: next}
	var o Offered
	before, began, due := CPU(), time.Now(), int(rate*d.Seconds())
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; i < due; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			due = i
		}
		for now := min(due, int(rate*time.Since(began).Seconds())); i < now; i++ {
			if !c.call() {
				o.NotSent++
			}
		}
	}
	ended := time.Now()
	answers := c.hangUp()
	o.Drained, o.CPU = time.Since(ended), CPU()-before
	o.add(answers)
	return o, nil
}

// callers are as many as are needed at a time.
type callers struct {
	target string
	most   int
	next   func(i int) []byte

	counter atomic.Int64
	wg      sync.WaitGroup
	all     []*caller
	mu      sync.Mutex
	idle    []*caller // the one that was busy last is the last: no more are used than needed
}

// caller sends requests over a connection of its own, one at a time.
type caller struct {
	conn  *Conn
	calls chan time.Time
	answers
}

type answers struct {
	took                       []time.Duration // of those that were admitted
	sent, hits, stale, refused int
	hungUp                     int
	other                      map[string]int
}

// call lets an idle caller send the next request. It returns false if there is none.
func (c *callers) call() bool {
	var one *caller
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		one, c.idle = c.idle[n-1], c.idle[:n-1]
	}
	c.mu.Unlock()
	if one == nil {
		if len(c.all) == c.most {
			return false
		}
		conn, err := New(c.target)
		if err != nil {
			panic(err) // impossible: Offer has checked the target
		}
		one = &caller{conn: conn, calls: make(chan time.Time, 1), answers: answers{other: map[string]int{}}}
		c.all = append(c.all, one)
		c.wg.Go(func() { c.serve(one) })
	}
	one.calls <- time.Now()
	return true
}

func (c *callers) serve(one *caller) {
	defer one.conn.Close()
	for began := range one.calls {
		answer, err := one.conn.send(c.next(int(c.counter.Add(1) - 1)))
		one.count(answer, err, time.Since(began))
		c.mu.Lock()
		c.idle = append(c.idle, one)
		c.mu.Unlock()
	}
}

// hangUp waits for the answers to all requests.
func (c *callers) hangUp() []*caller {
	for _, one := range c.all {
		close(one.calls)
	}
	c.wg.Wait()
	return c.all
}

func (a *answers) count(got answer, err error, took time.Duration) {
	a.sent++
	switch {
	case errors.Is(err, errHungUp):
		a.hungUp++
	case err != nil:
		a.other[Cause(err)]++
	case got.status < 300:
		a.took = append(a.took, took)
		if got.cache == "HIT" {
			a.hits++
		}
	case got.status == 404 || got.status == 409:
		a.took = append(a.took, took)
		a.stale++
	case (got.status == 429 || got.status == 503) && got.retryAfter != "":
		a.refused++
	default:
		a.other[fmt.Sprint("status ", got.status)]++
	}
}

func (o *Offered) add(all []*caller) {
	o.Other = map[string]int{}
	var took []time.Duration
	for _, a := range all {
		o.Sent, o.Hits, o.Stale = o.Sent+a.sent, o.Hits+a.hits, o.Stale+a.stale
		o.Refused, o.HungUp = o.Refused+a.refused, o.HungUp+a.hungUp
		took = append(took, a.took...)
		for what, n := range maps.All(a.other) {
			o.Other[what] += n
		}
	}
	if o.Admitted = len(took); o.Admitted > 0 {
		slices.Sort(took)
		o.P50, o.P99 = took[len(took)/2], took[len(took)*99/100]
	}
}

// Cause is the text of an error without the addresses of its connection.
func Cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// CPU returns the processor time that this process has taken.
func CPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

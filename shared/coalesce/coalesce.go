// Package coalesce lets callers that wait at the same time share one commit.
//
// Items that arrive during a commit wait; when it is done, they make up the next batch. A lone item is committed at once, and
// batches grow with the load. There is one commit at a time: concurrent commits would make batches smaller, and cost more than
// they gain. With Overlap, the next batch does not wait for a commit that is late. The package does not depend on what is
// committed.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Errors of [Coalescer.Do] and [Coalescer.Add]. The item is not committed.
var (
	ErrFull   = errors.New("too many items wait")
	ErrClosed = errors.New("closed")
)

// PanicError is the error of an item whose commit panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the value and the stack, for logs.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Options are the limits of a Coalescer. MaxBatch, MaxQueue and Timeout must be positive.
type Options struct {
	MaxBatch int           // items in one commit
	MaxQueue int           // items waiting; a further one gets ErrFull
	Timeout  time.Duration // of one commit
	// Split reports whether a single item may have caused the error of its batch. If so, the items are committed one by one. nil
	// means never.
	Split func(error) bool
	// Overlap is how long the next batch waits for a commit before it is committed concurrently; 0: until the commit is done.
	Overlap time.Duration
	// Every is the least time between the starts of two batches: fewer and larger batches save the fixed cost of a commit. An item
	// that arrives after a pause is still committed at once. 0: a batch begins when the last one is done.
	Every time.Duration
}

// Coalescer commits items in batches. Safe for concurrent use. Create it with [New].
type Coalescer[T, R any] struct {
	commit  func(ctx context.Context, items []T) ([]R, error)
	options Options
	stopped chan struct{} // closed once every item has its outcome

	mu      sync.Mutex
	changed sync.Cond // waiting or closed has changed
	waiting []*call[T, R]
	closed  bool
}

// New returns a running Coalescer. commit gets the items of one batch, and a context that no caller can cancel. It returns one
// result for each item, or an error for all of them. It is not called concurrently, unless Overlap is set.
func New[T, R any](commit func(ctx context.Context, items []T) ([]R, error), o Options) *Coalescer[T, R] {
	c := &Coalescer[T, R]{commit: commit, options: o, stopped: make(chan struct{})}
	c.changed.L = &c.mu
	go c.run()
	return c
}

// call is one caller's item. done has a buffer for the outcome, so that sending never blocks.
type call[T, R any] struct {
	item T
	done chan outcome[R]
}

type outcome[R any] struct {
	result R
	err    error
}

// Do commits item together with other waiting items, and returns once it is committed. If ctx ends first, Do returns its cause:
// an item that still waits is removed; a commit in flight continues.
func (c *Coalescer[T, R]) Do(ctx context.Context, item T) (R, error) {
	var none R
	one := &call[T, R]{item: item, done: make(chan outcome[R], 1)}
	if err := c.push(one); err != nil {
		return none, err
	}
	select {
	case o := <-one.done:
		return o.result, o.err
	case <-ctx.Done():
		c.remove(one)
		return none, context.Cause(ctx)
	}
}

// Add queues item for a commit and does not wait; the outcome is discarded. After an error the item is not committed.
func (c *Coalescer[T, R]) Add(item T) error {
	return c.push(&call[T, R]{item: item, done: make(chan outcome[R], 1)})
}

// Close refuses further items, commits those that wait, and returns once every item has its outcome.
func (c *Coalescer[T, R]) Close() {
	c.mu.Lock()
	c.closed = true
	c.changed.Signal()
	c.mu.Unlock()
	<-c.stopped
}

func (c *Coalescer[T, R]) run() {
	defer close(c.stopped)
	if c.options.Overlap > 0 {
		c.runOverlapping()
		return
	}
	for batch := c.take(); batch != nil; batch = c.take() {
		began := time.Now()
		c.settle(batch)
		time.Sleep(c.options.Every - time.Since(began))
	}
}

func (c *Coalescer[T, R]) runOverlapping() {
	var late sync.WaitGroup
	defer late.Wait()
	timer := time.NewTimer(c.options.Overlap)
	defer timer.Stop()
	for batch := c.take(); batch != nil; batch = c.take() {
		done := make(chan struct{})
		late.Go(func() {
			defer close(done)
			c.settle(batch)
		})
		timer.Reset(c.options.Overlap)
		select {
		case <-done:
		case <-timer.C:
		}
	}
}

// settle commits a batch and sends each caller its outcome.
func (c *Coalescer[T, R]) settle(batch []*call[T, R]) {
	items := make([]T, len(batch))
	for i, one := range batch {
		items[i] = one.item
	}
	results, err := c.attempt(items)
	if err != nil && len(batch) > 1 && c.options.Split != nil && c.options.Split(err) {
		c.oneByOne(batch)
		return
	}
	for i, one := range batch {
		o := outcome[R]{err: err}
		if err == nil {
			o.result = results[i]
		}
		one.done <- o
	}
}

// oneByOne commits each item alone, so that one bad item does not fail the others.
func (c *Coalescer[T, R]) oneByOne(batch []*call[T, R]) {
	for _, one := range batch {
		results, err := c.attempt([]T{one.item})
		o := outcome[R]{err: err}
		if err == nil {
			o.result = results[0]
		}
		one.done <- o
	}
}

// attempt commits once. A panic becomes a [PanicError].
func (c *Coalescer[T, R]) attempt(items []T) (results []R, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.options.Timeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	results, err = c.commit(ctx, items)
	if err == nil && len(results) != len(items) {
		return nil, fmt.Errorf("commit returned %d results for %d items", len(results), len(items))
	}
	return results, err
}

func (c *Coalescer[T, R]) push(one *call[T, R]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case len(c.waiting) >= c.options.MaxQueue:
		return ErrFull
	}
	c.waiting = append(c.waiting, one)
	c.changed.Signal()
	return nil
}

// remove removes a call that still waits.
func (c *Coalescer[T, R]) remove(one *call[T, R]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, one); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// take waits for items and returns up to a batch of them, oldest first; nil once the Coalescer is closed and empty.
func (c *Coalescer[T, R]) take() []*call[T, R] {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) == 0 {
		if c.closed {
			return nil
		}
		c.changed.Wait()
	}
	n := min(c.options.MaxBatch, len(c.waiting))
	batch := slices.Clone(c.waiting[:n])
	c.waiting = slices.Delete(c.waiting, 0, n)
	return batch
}

// Package coalesce lets callers that wait at the same time share one commit.
//
// While a commit is under way, what arrives waits; once it is done, all that waits makes the next batch. A lone caller is
// committed at once, and the batch grows by itself as the load does. One commit at a time: several at once make each batch
// smaller, and cost more than they gain. Only a commit that is late stops being waited for, where Overlap is set. The package
// knows nothing of what is committed.
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

// Errors of [Coalescer.Do] that the commit did not make. Neither item was committed.
var (
	ErrFull   = errors.New("too many items wait")
	ErrClosed = errors.New("closed")
)

// PanicError is what an item gets whose commit, alone, panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error gives value and stack: text for logs.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Options bound a Coalescer. MaxBatch, MaxQueue and Timeout must be positive.
type Options struct {
	MaxBatch int           // items in one commit
	MaxQueue int           // items waiting; one more is ErrFull
	Timeout  time.Duration // of one commit
	// Split reports an error that one item may have brought over its whole batch: the items are then committed one by one. nil: no
	// error is.
	Split func(error) bool
	// Overlap is how long the next batch waits for a commit before it is committed beside it; 0: until the commit is done.
	Overlap time.Duration
	// Every is how far apart batches begin at least: a commit has a price of its own, which fewer and larger batches pay less
	// often. A caller that comes after a pause is committed at once all the same. 0: a batch begins when the last one is done.
	Every time.Duration
}

// Coalescer batches. Safe for concurrent use. Make it with [New].
type Coalescer[T, R any] struct {
	commit  func(ctx context.Context, items []T) ([]R, error)
	options Options
	stopped chan struct{} // closed once all have their outcome

	mu      sync.Mutex
	changed sync.Cond // waiting or closed has changed
	waiting []*call[T, R]
	closed  bool
}

// New starts to commit. commit gets the items of one batch and a context of its own, which no caller can cancel; it
// returns one result for each item, or an error for all of them. It is called by one goroutine.
func New[T, R any](commit func(ctx context.Context, items []T) ([]R, error), o Options) *Coalescer[T, R] {
	c := &Coalescer[T, R]{commit: commit, options: o, stopped: make(chan struct{})}
	c.changed.L = &c.mu
	go c.run()
	return c
}

// call is one caller's item. done holds its outcome once it has one: the channel never blocks the committer.
type call[T, R any] struct {
	item T
	done chan outcome[R]
}

type outcome[R any] struct {
	result R
	err    error
}

// Do commits item together with what waits, and returns once that is committed. If ctx ends first, Do returns its error:
// an item that still waited is taken out, one whose commit is under way goes on.
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

// Add has item committed as [Coalescer.Do] does, and does not wait: what comes of it only the commit knows. Errors mean that it
// will not be committed.
func (c *Coalescer[T, R]) Add(item T) error {
	return c.push(&call[T, R]{item: item, done: make(chan outcome[R], 1)})
}

// Close lets no more items in, commits those that wait, and returns once all have their outcome.
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

// settle commits a batch and tells each caller what came of it.
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

// oneByOne keeps one bad item from failing its neighbours.
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

// attempt commits once. A panic becomes an error, and is told from others by its type.
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
		return nil, fmt.Errorf("commit gave %d results for %d items", len(results), len(items))
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

// remove takes a call out if it still waits.
func (c *Coalescer[T, R]) remove(one *call[T, R]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, one); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
}

// take waits for something to wait and takes up to a batch of it, oldest first; nil once all is closed and empty.
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

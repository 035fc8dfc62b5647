// Package coalesce lets callers that wait at the same time share one commit.
//
// While a lane's commit is under way, what arrives for it waits; once the commit is done, all that waits makes the next
// batch. No timer: a lone caller is committed at once, and the batch grows by itself as the load does. The package knows
// nothing of what is committed.
package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
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

// Options bound a Coalescer. All but Split must be positive.
type Options struct {
	Lanes    int           // commits under way at once; items of one shard share a lane
	MaxBatch int           // items in one commit
	MaxQueue int           // items waiting in one lane; one more is ErrFull
	Spread   int           // items under way from which on all lanes are used: with fewer, one lane's larger batches are quicker
	Timeout  time.Duration // of one commit
	// Split reports an error that one item may have brought over its whole batch: the items are then committed one by one.
	Split func(error) bool
}

// Coalescer batches. Safe for concurrent use. Make it with [New].
type Coalescer[T, R any] struct {
	commit   func(ctx context.Context, items []T) ([]R, error)
	options  Options
	lanes    []*lane[T, R]
	underWay atomic.Int64
	running  sync.WaitGroup
}

// New starts the lanes. commit gets the items of one batch and a context of its own, which no caller can cancel; it
// returns one result for each item, or an error for all of them. It is called by one goroutine a lane.
func New[T, R any](commit func(ctx context.Context, items []T) ([]R, error), o Options) *Coalescer[T, R] {
	c := &Coalescer[T, R]{commit: commit, options: o}
	for range o.Lanes {
		l := &lane[T, R]{}
		l.changed.L = &l.mu
		c.lanes = append(c.lanes, l)
		c.running.Go(func() { c.run(l) })
	}
	return c
}

// call is one caller's item. done holds its outcome once it has one: the channel never blocks the lane.
type call[T, R any] struct {
	item T
	done chan outcome[R]
}

type outcome[R any] struct {
	result R
	err    error
}

type lane[T, R any] struct {
	mu      sync.Mutex
	changed sync.Cond // waiting or closed has changed
	waiting []*call[T, R]
	closed  bool
}

// Do commits item together with what waits in its shard's lane, and returns once that is committed. If ctx ends first, Do
// returns its error: an item that still waited is taken out, one whose commit is under way goes on.
func (c *Coalescer[T, R]) Do(ctx context.Context, shard uint64, item T) (R, error) {
	one := &call[T, R]{item: item, done: make(chan outcome[R], 1)}
	l := c.lanes[0]
	if c.underWay.Add(1) >= int64(c.options.Spread) {
		l = c.lanes[shard%uint64(len(c.lanes))]
	}
	defer c.underWay.Add(-1)
	if err := l.push(one, c.options.MaxQueue); err != nil {
		var none R
		return none, err
	}
	select {
	case o := <-one.done:
		return o.result, o.err
	case <-ctx.Done():
		l.remove(one)
		var none R
		return none, context.Cause(ctx)
	}
}

// Close lets no more items in, commits those that wait, and returns once all have their outcome.
func (c *Coalescer[T, R]) Close() {
	for _, l := range c.lanes {
		l.mu.Lock()
		l.closed = true
		l.changed.Signal()
		l.mu.Unlock()
	}
	c.running.Wait()
}

func (c *Coalescer[T, R]) run(l *lane[T, R]) {
	for batch := l.take(c.options.MaxBatch); batch != nil; batch = l.take(c.options.MaxBatch) {
		items := make([]T, len(batch))
		for i, one := range batch {
			items[i] = one.item
		}
		results, err := c.attempt(items)
		if err != nil && len(batch) > 1 && c.options.Split(err) {
			c.oneByOne(batch)
			continue
		}
		for i, one := range batch {
			o := outcome[R]{err: err}
			if err == nil {
				o.result = results[i]
			}
			one.done <- o
		}
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

func (l *lane[T, R]) push(one *call[T, R], limit int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case len(l.waiting) >= limit:
		return ErrFull
	}
	l.waiting = append(l.waiting, one)
	l.changed.Signal()
	return nil
}

// remove takes a call out if it still waits.
func (l *lane[T, R]) remove(one *call[T, R]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, one); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// take waits for something to wait and takes up to limit of it, oldest first; nil once the lane is closed and empty.
func (l *lane[T, R]) take(limit int) []*call[T, R] {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) == 0 {
		if l.closed {
			return nil
		}
		l.changed.Wait()
	}
	n := min(limit, len(l.waiting))
	batch := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return batch
}

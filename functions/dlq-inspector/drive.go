package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	lanes       = 4       // batches of one replay that are under way at a time
	laneLetters = 64      // letters of one batch
	laneBytes   = 3 << 19 // what they hold together, unless one holds more
	lookAhead   = 500     // letters looked up at a time
	maxOwed     = 5000    // letters of one pass over those that are owed their outcome
	// maxTroubles is how often a letter is tried whose trouble is its own: the function is ready, and gives no verdict on it.
	maxTroubles = 5
	renewEvery  = time.Second
	lostAfter   = 10 * time.Second // without renewal, less than the lease
)

// drive is one turn of a process at one replay: first the letters that are owed an outcome, then those that the cursor comes to.
// Each lane takes a batch, sends it, and writes its outcomes; so a letter that hangs holds up its batch alone.
type drive struct {
	*bulkRunner
	b       bulk
	halted  chan struct{} // closed: no further letter is begun
	halting sync.Once
	abandon context.CancelCauseFunc // ends what is under way
	pace    pacer
	careful atomic.Bool // after trouble, until the first verdict: one letter at a time

	taking sync.Mutex // letters are taken in order
	cursor uuid.UUID
	at     *place
	ahead  []candidate // looked up, not taken
	end    bool        // no other is left in this pass

	mu      sync.Mutex
	trouble string // why it rests
	failed  error  // of the database
	recent  string // verdicts
}

func newDrive(r *bulkRunner, b bulk) *drive {
	d := &drive{bulkRunner: r, b: b, halted: make(chan struct{}), pace: pacer{every: time.Second / time.Duration(b.Rate)}, cursor: b.Cursor, at: b.At, recent: b.Recent}
	d.careful.Store(b.Trouble != nil)
	return d
}

func (d *drive) halt() { d.halting.Do(func() { close(d.halted) }) }

func (d *drive) over() bool {
	select {
	case <-d.halted:
		return true
	default:
		return false
	}
}

// run works until no letter is left, the turn is over, the replay has ended, or there is trouble that other letters would meet, too.
func (d *drive) run(ctx context.Context) {
	work, abandon := context.WithCancelCause(ctx)
	d.abandon = abandon
	defer abandon(nil)
	watched := make(chan struct{})
	finished := make(chan struct{})
	go func() { defer close(watched); d.watch(work, finished) }()
	if d.b.DryRun {
		d.plan(work)
	} else {
		d.deliver(work)
	}
	left := d.over() // before the end: nothing says that all letters were seen
	close(finished)
	<-watched
	d.leave(ctx, left)
}

// watch renews the lease and halts the drive when its time is over, or the replay is not its own any more.
func (d *drive) watch(ctx context.Context, finished <-chan struct{}) {
	renew, slice := time.NewTicker(renewEvery), time.NewTimer(driveSlice)
	defer renew.Stop()
	defer slice.Stop()
	renewed, stopping := time.Now(), d.stopping
	for {
		select {
		case <-finished:
			return
		case <-slice.C:
			d.halt()
		case <-stopping:
			stopping = nil
			d.halt()
			time.AfterFunc(stopGrace, func() { d.abandon(errors.New("the process stops")) })
		case <-renew.C:
			ours, err := d.store.renew(ctx, d.b)
			switch {
			case err == nil && ours:
				renewed = time.Now()
			case err == nil:
				d.halt()
			case time.Since(renewed) > lostAfter:
				d.halt()
				d.abandon(errLost)
			}
		}
	}
}

// leave gives the replay back, or ends it.
func (d *drive) leave(ctx context.Context, left bool) {
	d.mu.Lock()
	trouble, failed := d.trouble, d.failed
	d.mu.Unlock()
	after := time.Duration(0)
	switch {
	case errors.Is(failed, errLost):
		return
	case d.isStopping():
		trouble = ""
	case failed != nil:
		d.log.WarnContext(ctx, "bulk replay paused after an error", "replay_id", d.b.ID, "err", failed)
		after, trouble = time.Second, "the database does not answer"
	case trouble != "":
		d.log.WarnContext(ctx, "bulk replay paused after an error", "replay_id", d.b.ID, "reason", trouble)
		after = bulkRest
	case !left:
		done := false
		err := persist(ctx, func(ctx context.Context) (err error) { done, err = d.store.complete(ctx, d.b); return err })
		if err == nil && done {
			return
		}
		after, trouble = bulkRest, "letters without a verdict are tried again"
	}
	if err := persist(ctx, func(ctx context.Context) error { return d.store.rest(ctx, d.b, after, trouble) }); err != nil {
		d.log.WarnContext(ctx, "replay left to its lease", "replay_id", d.b.ID, "err", err)
	}
}

func (d *drive) deliver(ctx context.Context) {
	owed, err := d.store.owed(ctx, d.b, maxOwed)
	if err != nil {
		d.fail(err)
		return
	}
	d.ahead, d.end = owed, true
	d.pass(ctx, d.takeOwed)
	d.ahead, d.end = nil, false
	d.pass(ctx, d.takeSelected)
}

type taker func(ctx context.Context) ([]stored, error)

// pass takes, sends and settles batches until no letter is left.
func (d *drive) pass(ctx context.Context, take taker) {
	for d.careful.Load() {
		if !d.step(ctx, take) {
			return
		}
	}
	n := lanes
	if d.b.Target == toTopic {
		n = 1 // copies go in the order of their records
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for d.step(ctx, take) {
			}
		})
	}
	wg.Wait()
}

func (d *drive) step(ctx context.Context, take taker) (more bool) {
	letters, more := d.takeNext(ctx, take)
	if len(letters) > 0 {
		d.finish(ctx, letters, d.send(ctx, letters))
	}
	return more
}

// takeNext takes a batch. After letters that could not be taken no other lane takes the next ones, and moves the cursor past them.
func (d *drive) takeNext(ctx context.Context, take taker) (letters []stored, more bool) {
	d.taking.Lock()
	defer d.taking.Unlock()
	if d.over() {
		return nil, false
	}
	letters, err := take(ctx)
	if err != nil {
		d.fail(err)
		return nil, false
	}
	return letters, !d.end || len(d.ahead) > 0
}

func (d *drive) fail(err error) {
	d.mu.Lock()
	if d.failed == nil {
		d.failed = err
	}
	d.mu.Unlock()
	d.halt()
}

package replay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

const (
	lanes       = 4                       // batches of one replay that are in flight at a time
	laneLetters = 128                     // letters of one batch
	laneBytes   = 3 << 19                 // of their contents together, unless a single letter has more
	lookAhead   = 2 * lanes * laneLetters // letters looked up at a time
	maxOwed     = 5000                    // letters of one pass over those that are owed an outcome
	renewEvery  = time.Second
	lostAfter   = 3 * time.Second // without renewal; less than BulkLease
)

const (
	// MaxInFlight is how many letters of one bulk replay are in flight at a time.
	MaxInFlight = lanes * laneLetters
	// MaxTroubles is how many attempts a bulk replay makes with a letter on which the function gives no verdict although it is ready.
	MaxTroubles = 5
)

// drive is one turn of a process at one bulk replay: first the letters that are owed an outcome, then those after the cursor. Lanes
// take, send and settle batches concurrently, so a letter that hangs delays only its own batch.
type drive struct {
	runner  *Runner
	b       Bulk
	halted  chan struct{} // closed: no further letter is sent
	halting sync.Once
	abandon context.CancelCauseFunc // ends what is in flight
	pace    pacer
	program *transform.Program // nil: values stay
	unable  error              // why this version cannot run the program, which another has accepted
	sampled int                // letters of a plan in this turn
	careful atomic.Bool        // one letter at a time: set after a pause, until the first verdict

	taking sync.Mutex // one lane takes letters at a time
	cursor uuid.UUID
	at     *kafkaclient.Place
	ahead  []Candidate // looked up, not taken
	end    bool        // no letter follows those in ahead

	mu      sync.Mutex
	trouble string // why the replay is paused; empty: it is not
	recent  string // verdicts, see [Bulk.remember]
}

func newDrive(r *Runner, b Bulk) *drive {
	d := &drive{
		runner: r, b: b, halted: make(chan struct{}), pace: pacer{every: time.Second / time.Duration(b.Rate)}, cursor: b.Cursor, at: b.At, recent: b.Recent,
	}
	d.careful.Store(b.Trouble != nil)
	if b.Transform != "" {
		d.program, d.unable = transform.Compile(b.Transform)
	}
	return d
}

func (d *drive) halt() { d.halting.Do(func() { close(d.halted) }) }

func (d *drive) isHalted() bool {
	select {
	case <-d.halted:
		return true
	default:
		return false
	}
}

// run works until no letter is left, the turn is over, the replay has ended, or it has to pause because other letters would fail, too.
func (d *drive) run(ctx context.Context) {
	work, abandon := context.WithCancelCause(ctx)
	d.abandon = abandon
	defer abandon(nil)
	watched := make(chan struct{})
	finished := make(chan struct{})
	go func() { defer close(watched); d.watch(work, finished) }()
	advance := d.deliver
	switch {
	case d.b.Action == ActionDiscard:
		advance = d.discard
	case d.b.DryRun:
		advance = d.rehearse
	}
	err := advance(work)
	halted := d.isHalted() // before the end: then some letters may not have been seen
	close(finished)
	<-watched
	d.leave(ctx, halted, err)
}

// watch renews the lease. It halts the drive when the turn is over, the process stops, or another process has the replay.
func (d *drive) watch(ctx context.Context, finished <-chan struct{}) {
	renew, slice := time.NewTicker(renewEvery), time.NewTimer(driveSlice)
	defer renew.Stop()
	defer slice.Stop()
	renewed, stopping := time.Now(), d.runner.stopping
	for {
		select {
		case <-finished:
			return
		case <-slice.C:
			d.halt()
		case <-stopping:
			stopping = nil
			d.halt()
			time.AfterFunc(StopGrace, func() { d.abandon(errors.New("the process stops")) })
		case <-renew.C:
			ours, err := d.runner.store.Renew(ctx, d.b)
			switch {
			case err == nil && ours:
				renewed = time.Now()
			case err == nil:
				d.halt()
			case time.Since(renewed) > lostAfter:
				d.halt()
				d.abandon(ErrLost)
			}
		}
	}
}

// leave ends the turn: the replay is completed, or due again. failed is the error that ended the turn, if one did.
func (d *drive) leave(ctx context.Context, halted bool, failed error) {
	d.mu.Lock()
	trouble := d.trouble
	d.mu.Unlock()
	log, after := d.runner.log, time.Duration(0)
	switch {
	case errors.Is(failed, ErrLost):
		return
	case d.runner.isStopping():
		trouble = ""
	case failed != nil:
		log.WarnContext(ctx, "bulk replay paused after an error", "replay_id", d.b.ID, "err", failed)
		d.runner.metrics.paused()
		after, trouble = time.Second, "the database does not answer"
	case trouble != "":
		log.WarnContext(ctx, "bulk replay paused after an error", "replay_id", d.b.ID, "reason", trouble)
		d.runner.metrics.paused()
		if after = firstRest; d.b.Trouble != nil {
			after = bulkRest
		}
	case !halted:
		done := false
		err := fault.Insist(context.WithoutCancel(ctx), func(ctx context.Context) (err error) { done, err = d.runner.store.Complete(ctx, d.b); return err })
		if err == nil && done {
			return
		}
		after, trouble = bulkRest, "letters without a verdict are tried again"
	}
	if err := fault.Insist(context.WithoutCancel(ctx), func(ctx context.Context) error { return d.runner.store.Rest(ctx, d.b, after, trouble) }); err != nil {
		log.WarnContext(ctx, "bulk replay resumes when its lease ends", "replay_id", d.b.ID, "err", err)
	}
}

func (d *drive) deliver(ctx context.Context) error {
	owed, err := d.runner.store.Owed(ctx, d.b, maxOwed)
	if err != nil {
		return err
	}
	d.ahead, d.end = owed, true
	if err := d.pass(ctx, d.takeOwed); err != nil {
		return err
	}
	d.ahead, d.end = nil, false
	return d.pass(ctx, d.takeSelected)
}

// batch is letters in flight.
type batch struct {
	letters []letter.Stored
	edits   map[uuid.UUID]*edit // none: the letter's own value
}

type taker func(ctx context.Context) (batch, error)

// pass takes, sends and settles batches until no letter is left. It returns the first error of a lane, which halts the others.
func (d *drive) pass(ctx context.Context, take taker) error {
	for d.careful.Load() {
		if more, err := d.step(ctx, take); err != nil || !more {
			return err
		}
	}
	n := lanes
	if d.b.Target == ToTopic {
		n = 1 // copies are sent in the order of their records
	}
	var group errgroup.Group
	for range n {
		group.Go(func() error {
			for {
				if more, err := d.step(ctx, take); err != nil || !more {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// step is one batch. more is false if it was the last.
func (d *drive) step(ctx context.Context, take taker) (more bool, err error) {
	b, more, err := d.takeNext(ctx, take)
	if err == nil && len(b.letters) > 0 {
		err = d.finish(ctx, b.letters, d.send(ctx, b))
	}
	if err != nil {
		d.halt()
	}
	return more, err
}

// takeNext takes a batch. If it fails, it halts the drive before another lane can take the next batch and move the cursor past this one.
func (d *drive) takeNext(ctx context.Context, take taker) (b batch, more bool, err error) {
	d.taking.Lock()
	defer d.taking.Unlock()
	if d.isHalted() {
		return b, false, nil
	}
	if b, err = take(ctx); err != nil {
		d.halt()
		return b, false, err
	}
	return b, !d.end || len(d.ahead) > 0, nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	var err error
	switch {
	case errors.Is(failed, errLost):
		return
	case d.isStopping():
		err = d.store.rest(ctx, d.b, 0, "")
	case failed != nil:
		d.log.WarnContext(ctx, "replay rests", "replay_id", d.b.ID, "err", failed)
		err = d.store.rest(ctx, d.b, time.Second, "the database does not answer")
	case trouble != "":
		d.log.WarnContext(ctx, "replay rests", "replay_id", d.b.ID, "reason", trouble)
		err = d.store.rest(ctx, d.b, bulkRest, trouble)
	case left:
		err = d.store.rest(ctx, d.b, 0, "")
	default:
		var done bool
		if done, err = d.store.complete(ctx, d.b); err == nil && !done {
			err = d.store.rest(ctx, d.b, bulkRest, "letters without a verdict are tried again")
		}
	}
	if err != nil {
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
	if d.over() {
		return false
	}
	d.taking.Lock()
	letters, err := take(ctx)
	more = !d.end || len(d.ahead) > 0
	d.taking.Unlock()
	if err != nil {
		d.fail(err)
		return false
	}
	if len(letters) > 0 {
		d.finish(ctx, letters, d.send(ctx, letters))
	}
	return more
}

func (d *drive) fail(err error) {
	d.mu.Lock()
	if d.failed == nil {
		d.failed = err
	}
	d.mu.Unlock()
	d.halt()
}

// batch is how many letters are taken at a time: a tenth of a second's, so that what was taken is soon settled.
func (d *drive) batch() int {
	if d.careful.Load() {
		return 1
	}
	return min(max(d.b.Rate/10, 1), laneLetters)
}

// next takes candidates off what was looked up, as many as a batch has, once it is their time.
func (d *drive) next(ctx context.Context) ([]candidate, error) {
	if len(d.ahead) == 0 && !d.end {
		b := d.b
		b.Cursor, b.At = d.cursor, d.at
		var err error
		if d.ahead, err = d.store.selected(ctx, b, lookAhead); err != nil {
			return nil, err
		}
		d.end = len(d.ahead) == 0
	}
	n, bytes := 0, int64(0)
	for _, c := range d.ahead[:min(d.batch(), len(d.ahead))] {
		// One that had troubles goes alone: if it brings the function down, it takes no other letter with it.
		if n > 0 && (c.troubles > 0 || bytes+c.bytes > laneBytes) {
			break
		}
		n, bytes = n+1, bytes+c.bytes
		if c.troubles > 0 {
			break
		}
	}
	if n == 0 || !d.pace.wait(d.halted, n) {
		return nil, nil
	}
	taken := d.ahead[:n]
	d.ahead = d.ahead[n:]
	return taken, nil
}

func (d *drive) sendable(c candidate) bool {
	return d.replay.sendable(stored{Exact: c.exact, Origin: c.origin})
}

// takeSelected claims the letters that come next and moves the cursor past them.
func (d *drive) takeSelected(ctx context.Context) ([]stored, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	a, takes := d.choose(all)
	d.passTo(&a, all[len(all)-1])
	letters, err := d.store.claim(ctx, d.b, a, takes, nil)
	if err == nil {
		d.moved(a)
	}
	return letters, err
}

// passTo moves the cursor past a letter.
func (d *drive) passTo(a *advance, last candidate) {
	if d.b.Target == toTopic && last.origin != nil {
		a.at = last.origin
	} else {
		a.cursor = &last.id
	}
}

// moved takes over what was written.
func (d *drive) moved(a advance) {
	if a.cursor != nil {
		d.cursor = *a.cursor
	}
	d.at = cmp.Or(a.at, d.at)
	d.count(a.outcomes)
}

// takeOwed claims letters that were taken before.
func (d *drive) takeOwed(ctx context.Context) ([]stored, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	// One that somebody replays just now keeps waiting.
	all = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.Status == statusReplaying })
	a, takes := d.choose(all)
	var freed []uuid.UUID
	for _, c := range all {
		if !slices.ContainsFunc(takes, func(t take) bool { return t.id == c.id }) {
			freed = append(freed, c.id)
		}
	}
	letters, err := d.store.claim(ctx, d.b, a, takes, freed)
	if err == nil {
		d.count(a.outcomes)
	}
	return letters, err
}

// choose decides on letters: which are taken, and what is noted of those that are skipped.
func (d *drive) choose(all []candidate) (a advance, takes []take) {
	a = advance{outcomes: map[string]int64{}, reasons: map[string]int64{}}
	for _, c := range all {
		switch what, code := d.b.decide(c, d.sendable(c), d.replay.maxReplays); what {
		case doTake, doWait:
			takes = append(takes, take{id: c.id, token: uuid.New(), count: c.ReplayCount, begin: what == doTake})
		case doSkip:
			a.outcomes[outcomeSkipped]++
			a.reasons[code]++
		}
	}
	return a, takes
}

func (d *drive) count(outcomes map[string]int64) {
	for outcome, n := range outcomes {
		d.metrics.replays(outcome).Add(int(n))
	}
}

package replay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

const (
	maxDrives  = 3                // bulk replays that a process works on at a time; others wait for a turn
	driveSlice = 15 * time.Second // of one turn; then the replay that has waited longest is next
	firstRest  = time.Second      // of a replay that is paused: a function that was killed is back by then
	bulkRest   = 5 * time.Second  // of a replay that is paused once more
)

// StopGrace is for letters in flight when the process stops. The platform kills it after 10 s.
const StopGrace = 3 * time.Second

// Runner works on bulk replays in the background. Progress is only in the database, so if a replica is killed or scaled down, another
// resumes its replays. Several replicas work on different replays. Safe for concurrent use.
type Runner struct {
	holder   string // of leases: this process, or one before it that has died
	store    BulkStore
	replayer *Replayer
	log      *slog.Logger
	metrics  Metrics
	stopping <-chan struct{} // closed when the process stops; nil: never

	mu      sync.Mutex
	workers int // each works on one replay at a time
	drives  map[uuid.UUID]*drive
	idle    chan struct{} // closed once no worker is left
	alarm   *time.Timer   // at the time of a replay that is due soon; nil: none
	rings   time.Time     // that time
}

// NewRunner returns a Runner that ends its work soon after stopping is closed. No two processes that live at the same time may have the
// same holder.
func NewRunner(holder string, store BulkStore, replayer *Replayer, log *slog.Logger, m Metrics, stopping <-chan struct{}) *Runner {
	r := &Runner{
		holder: holder, store: store, replayer: replayer, log: log, metrics: m, stopping: stopping, drives: map[uuid.UUID]*drive{}, idle: make(chan struct{}),
	}
	close(r.idle)
	return r
}

// Resume begins work on the replays that are due, and first on those that a process of this holder had when it was killed: this one runs
// in its place. Call it when the process starts.
func (r *Runner) Resume(ctx context.Context) {
	err := fault.Insist(ctx, func(ctx context.Context) error { return r.store.TakeBack(ctx, r.holder) })
	if err = errors.Join(err, r.Start(ctx)); err != nil {
		r.log.WarnContext(ctx, "bulk replays wait for the next tick", "err", err)
	}
}

// Start begins work on the replays that are due, as many as there is room for, and returns.
func (r *Runner) Start(ctx context.Context) error {
	for !r.isStopping() && r.hire() {
		b, ok, err := r.claim(ctx)
		if err != nil || !ok {
			r.dismiss()
			return err
		}
		go r.work(context.WithoutCancel(ctx), b)
	}
	return nil
}

// claim leases a replay that is due. If none is, work begins again once one is due soon.
func (r *Runner) claim(ctx context.Context) (b Bulk, ok bool, err error) {
	if b, ok, err = r.store.ClaimBulk(ctx, r.holder); err == nil && !ok {
		err = r.await(ctx)
	}
	return b, ok, err
}

// await sees to it that work begins once a replay that is paused is due, or one whose process has died: ticks may come once a minute.
func (r *Runner) await(ctx context.Context) error {
	after, ok, err := r.store.NextDue(ctx)
	if err != nil || !ok || after > BulkLease {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := time.Now().Add(after)
	if r.alarm != nil {
		if !at.Before(r.rings) {
			return nil
		}
		r.alarm.Stop() // if it has rung already, work begins once more than needed
	}
	later := context.WithoutCancel(ctx)
	r.rings, r.alarm = at, time.AfterFunc(after, func() {
		r.mu.Lock()
		r.alarm = nil
		r.mu.Unlock()
		if err := r.Start(later); err != nil {
			r.log.WarnContext(later, "bulk replays wait for the next tick", "err", err)
		}
	})
	return nil
}

// hire counts one more worker, if there is room.
func (r *Runner) hire() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.workers == maxDrives {
		return false
	}
	if r.workers++; r.workers == 1 {
		r.idle = make(chan struct{})
	}
	return true
}

func (r *Runner) dismiss() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.workers--; r.workers == 0 {
		close(r.idle)
	}
}

// work takes a turn at a replay, then at whichever is due next.
func (r *Runner) work(ctx context.Context, b Bulk) {
	defer r.dismiss()
	for ok := true; ok; {
		d := newDrive(r, b)
		r.mu.Lock()
		r.drives[b.ID] = d
		r.mu.Unlock()
		d.run(ctx)
		r.mu.Lock()
		delete(r.drives, b.ID)
		r.mu.Unlock()
		if r.isStopping() {
			return // another replica takes the next one
		}
		var err error
		if b, ok, err = r.claim(ctx); err != nil {
			r.log.WarnContext(ctx, "bulk replays wait for the next tick", "err", err)
			return
		}
	}
}

func (r *Runner) isStopping() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// working returns a channel that is closed once no work is in flight.
func (r *Runner) working() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// Advance begins work on the replays that are due and returns when no work is left, or after the given time. A caller that waits in a
// request keeps the process alive: a platform may stop a process that has no request.
func (r *Runner) Advance(ctx context.Context, during time.Duration) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	end := time.NewTimer(during)
	defer end.Stop()
	select {
	case <-r.working():
	case <-end.C:
	case <-r.stopping:
	case <-ctx.Done():
	}
	return nil
}

// Halt ends the work on a replay that was cancelled: no further letter is sent.
func (r *Runner) Halt(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.drives[id]; d != nil {
		d.halt()
	}
}

// Wait returns once no work is left, or after the given time. Call it when the process stops.
func (r *Runner) Wait(atMost time.Duration) {
	select {
	case <-r.working():
	case <-time.After(atMost):
	}
}

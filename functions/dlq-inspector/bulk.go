package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

const (
	maxDrives   = 3                // replays of many that a process advances at a time; others take their turns
	driveSlice  = 15 * time.Second // then the one that has waited longest goes on
	bulkRest    = 5 * time.Second  // after trouble
	tickAdvance = 15 * time.Second // how long a tick stays while there is work
	stopGrace   = 3 * time.Second  // for letters under way when the process stops; its platform waits 10 s
)

type bulkStore interface {
	claimBulk(ctx context.Context) (b bulk, ok bool, err error)
	renew(ctx context.Context, b bulk) (ours bool, err error)
	rest(ctx context.Context, b bulk, after time.Duration, trouble string) error
	complete(ctx context.Context, b bulk) (done bool, err error)
	selected(ctx context.Context, b bulk, limit int) ([]candidate, error)
	owed(ctx context.Context, b bulk, limit int) ([]candidate, error)
	whole(ctx context.Context, ids []uuid.UUID) ([]stored, error)
	note(ctx context.Context, b bulk, a advance) error
	claim(ctx context.Context, b bulk, a advance, takes []take, freed []uuid.UUID) ([]stored, error)
	settle(ctx context.Context, b bulk, a advance, all []result) error
}

func newBulkRunner(store bulkStore, replay *replayer, log *slog.Logger, m metrics, stopping <-chan struct{}) *bulkRunner {
	r := &bulkRunner{store: store, replay: replay, log: log, metrics: m, stopping: stopping, drives: map[uuid.UUID]*drive{}, idle: make(chan struct{})}
	close(r.idle)
	return r
}

// bulkRunner advances replays of many letters beside the requests: what is running lives in the database alone, so that
// an inspector that is killed or scaled down goes on with the next tick. Several replicas take different replays. Safe for
// concurrent use.
type bulkRunner struct {
	store    bulkStore
	replay   *replayer
	log      *slog.Logger
	metrics  metrics
	stopping <-chan struct{} // nil: never

	mu      sync.Mutex
	workers int // each with one drive after the other
	drives  map[uuid.UUID]*drive
	idle    chan struct{} // closed once no worker is left
}

// start takes what is due, as far as there is room, and works on it beside the caller until it is done or comes to rest.
func (r *bulkRunner) start(ctx context.Context) error {
	for !r.isStopping() && r.hire() {
		b, ok, err := r.store.claimBulk(ctx)
		if err != nil || !ok {
			r.dismiss()
			return err
		}
		go r.work(context.WithoutCancel(ctx), b)
	}
	return nil
}

// hire counts one more worker, if there is room.
func (r *bulkRunner) hire() bool {
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

func (r *bulkRunner) dismiss() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.workers--; r.workers == 0 {
		close(r.idle)
	}
}

// work drives a replay, then whichever is due next.
func (r *bulkRunner) work(ctx context.Context, b bulk) {
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
			return // and take none: another replica should have it
		}
		var err error
		if b, ok, err = r.store.claimBulk(ctx); err != nil {
			r.log.WarnContext(ctx, "replays wait for the next tick", "err", err)
			return
		}
	}
}

func (r *bulkRunner) isStopping() bool {
	select {
	case <-r.stopping:
		return true
	default:
		return false
	}
}

// working gives a channel that is closed once the work that is under way has ended.
func (r *bulkRunner) working() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// advance starts what is due and stays with it for a while: a platform lets a process live as long as requests do.
func (r *bulkRunner) advance(ctx context.Context, during time.Duration) error {
	if err := r.start(ctx); err != nil {
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

// halt ends the work on a replay that was cancelled: no further letter is begun.
func (r *bulkRunner) halt(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.drives[id]; d != nil {
		d.halt()
	}
}

// wait returns once no work is left, or after the given time. Call it when the process stops.
func (r *bulkRunner) wait(atMost time.Duration) {
	select {
	case <-r.working():
	case <-time.After(atMost):
	}
}

// ready asks the function whether it is: then a letter without a verdict has a trouble of its own.
func (r *replayer) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.target+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// decision is what a replay of many does with a letter that it comes to.
type decision int

const (
	doTake decision = iota
	doWait          // a replay of one letter has it: it gets its outcome later
	doSkip
)

// decide is pure. code and reason say why a letter is skipped.
func (b bulk) decide(c candidate, sendable bool, maxReplays int) (d decision, code string) {
	if c.bulk != nil && *c.bulk != b.ID {
		return doSkip, "not_open" // another replay of many has it
	}
	if c.Status == statusReplaying && !b.DryRun {
		return doWait, ""
	}
	if b.Target == toTopic && !sendable {
		return doSkip, "not_exact"
	}
	if _, err := c.begin(attempt{maxReplays: maxReplays, force: b.Force}); err != nil {
		return doSkip, fault.CodeOf(err)
	}
	return doTake, ""
}

// The stop rule: more than half of the last verdicts are refusals.
const (
	stopWindow  = 200
	stopRefused = stopWindow / 2
)

// remember appends verdicts to the last ones and says why the replay should stop, if it should.
func (b bulk) remember(recent, verdicts string) (now, stop string) {
	now = recent + verdicts
	if len(now) > stopWindow {
		now = now[len(now)-stopWindow:]
	}
	refused := 0
	for _, v := range now {
		if v == 'r' {
			refused++
		}
	}
	if len(now) == stopWindow && refused > stopRefused && !b.Force && !b.DryRun {
		stop = "more than half of the last 200 letters were refused: mend the cause first, or go on with force"
	}
	return now, stop
}

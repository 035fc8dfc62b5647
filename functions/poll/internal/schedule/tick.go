package schedule

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
)

const (
	tickBudget  = 20 * time.Second // below the platform's timeout of 45 s
	bookkeeping = 3 * time.Second  // of that, for writing the last results
	// lookAhead is how far a tick looks beyond its own time. PingSource delays each tick by 0 to 499 ms, so two ticks may be 5.5 s
	// apart: without the look-ahead a period of 5 s might have no tick at all.
	lookAhead   = time.Second
	sweepWidth  = 200  // outbox rows in flight at a time
	dropBatch   = 1000 // bodies of raw responses dropped by a tick: more than come in between two
	runsBatch   = 2000 // old runs dropped by one statement
	runsBatches = 10   // such statements in one tick: more than 10,000 jobs of 5 s record
)

// Outbox publishes events that were left behind, and keeps raw responses small. [ingest.Ingester] is one.
type Outbox interface {
	Sweep(ctx context.Context, width int) (published int, err error)
	DropBodies(ctx context.Context, age time.Duration, limit int) (dropped int64, err error)
}

// History fetches histories until calls ends, and writes what is in flight until ctx ends. [backfill.Runner] is one.
type History interface {
	Run(ctx, calls context.Context) error
}

// Config is what a Ticker needs.
type Config struct {
	Store   Store
	Outbox  Outbox
	Fetcher *fetch.Fetcher
	History History // nil: none
	Log     *slog.Logger

	Fresh         time.Duration   // how long a quote may serve jobs other than those it was fetched for
	RawRetention  time.Duration   // how long the bodies of raw responses are kept
	RunsRetention time.Duration   // how long runs are kept
	Stopping      <-chan struct{} // closed when the function is told to stop; nil: never

	// Recorded and Swept are called with the number of runs recorded, and of events published by the sweep.
	Recorded, Swept func(n int)
	// Troubles is called in each tick with the providers that are backed off, and the number of jobs that are paused for their failures.
	// nil: nobody wants to know.
	Troubles func(off map[string]jobs.Backoff, paused int)
}

// Ticker runs what is due. Safe for concurrent use.
type Ticker struct{ Config }

// New returns a Ticker.
func New(c Config) *Ticker { return &Ticker{Config: c} }

// Run runs the jobs that are due or will be within a second, then fetches histories, and sweeps the outbox meanwhile. It returns when
// that is done or its time is up. A symbol that fails is recorded in its run. An error means that the database did not answer, and that
// the tick should be sent again.
func (t *Ticker) Run(ctx context.Context) error {
	// Jobs that are claimed are finished even if the timer gives up waiting.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget)
	defer cancel()
	// A function that is told to stop makes no more calls. What is in flight is recorded.
	work, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-t.Stopping:
			stop()
		case <-work.Done():
		}
	}()
	swept := make(chan error, 1)
	go func() {
		published, err := t.Outbox.Sweep(work, sweepWidth)
		t.Swept(published)
		swept <- err
	}()
	if err := errors.Join(t.fetchAll(ctx, work), <-swept); err != nil {
		return err
	}
	if isOver(ctx) {
		return nil // the next tick has time
	}
	return t.tidy(ctx, work)
}

func isOver(ctx context.Context) bool { return ctx.Err() != nil }

// tidy drops what is older than its retention, a little with each tick.
func (t *Ticker) tidy(ctx, work context.Context) error {
	if err := t.Store.ForgetKeys(ctx); err != nil {
		return err
	}
	for range runsBatches {
		dropped, err := t.Store.DropRuns(ctx, t.RunsRetention, runsBatch)
		if err != nil {
			return err
		}
		if dropped < runsBatch {
			break
		}
		if isOver(work) {
			return nil
		}
	}
	_, err := t.Outbox.DropBodies(ctx, t.RawRetention, dropBatch)
	return err
}

// fetchAll fetches quotes first, then histories. Calls end early enough to write their results.
func (t *Ticker) fetchAll(ctx, work context.Context) error {
	calls, cancel := context.WithTimeout(work, tickBudget-bookkeeping)
	defer cancel()
	if err := t.runJobs(ctx, calls); err != nil {
		return err
	}
	if err := t.pauseWaiting(ctx); err != nil || t.History == nil {
		return err
	}
	return t.History.Run(ctx, calls)
}

// runJobs runs each provider's jobs on their own, so that no job waits for another's provider: first those that are due and, after
// the look-ahead, those that have become due meanwhile.
func (t *Ticker) runJobs(ctx, calls context.Context) error {
	now, providers, err := t.Store.Due(ctx, lookAhead)
	if err != nil {
		return err
	}
	errs := make([]error, 2*len(providers))
	var wg sync.WaitGroup
	for i, p := range providers {
		if p.Now {
			wg.Go(func() { errs[2*i] = t.runProvider(ctx, calls, p.Provider, now) })
		}
		if p.Soon {
			wg.Go(func() {
				if fetch.Pause(calls, lookAhead) {
					errs[2*i+1] = t.runProvider(ctx, calls, p.Provider, now.Add(lookAhead))
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// runProvider runs the provider's jobs that were due at until, pass by pass.
func (t *Ticker) runProvider(ctx, calls context.Context, provider string, until time.Time) error {
	seen := map[string]*health{}
	for !isOver(calls) {
		p, err := t.beginAllowed(ctx, provider, until, seen)
		if err != nil || p == nil {
			return err
		}
		if err := p.run(ctx, calls); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

const (
	tickBudget  = 20 * time.Second // below the platform's timeout of 25 s
	bookkeeping = 3 * time.Second  // of that, for writing down the last results
	// lookAhead is how far a tick looks beyond its own time. PingSource delays each tick by 0 to 499 ms, so two ticks may be
	// 5.5 s apart: without it no tick at all might fall into a period of 5 s.
	lookAhead   = time.Second
	sweepWidth  = 200 // outbox rows in flight at a time
	renewalStep = lease / 3
	dropBatch   = 1000 // raw bodies dropped by a tick: more than come in between two
	runsBatch   = 2000 // old runs dropped by one statement
	runsBatches = 10   // such statements in one tick: more than 10,000 jobs of 5 s record
)

type tickStore interface {
	due(ctx context.Context, ahead time.Duration) (now time.Time, all []dueProvider, err error)
	claim(ctx context.Context, provider string, token uuid.UUID, until time.Time, limit int) ([]claim, error)
	acquire(ctx context.Context, token uuid.UUID, provider string, wants []*want) (acquired, error)
	renew(ctx context.Context, token uuid.UUID, jobs []string, provider string, symbols []market.Symbol) error
	write(ctx context.Context, token uuid.UUID, o outcome) (recorded int64, err error)
	forgetKeys(ctx context.Context) error
	dropRuns(ctx context.Context, age time.Duration, limit int) (dropped int64, err error)
}

type ingester interface {
	Reserve(ctx context.Context, provider string) error
	FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (ingest.Result, error)
	Sweep(ctx context.Context, width int) (published int, err error)
	DropBodies(ctx context.Context, age time.Duration, limit int) (dropped int64, err error)
}

type quoteCache interface {
	Put(ctx context.Context, q market.Quote, id uuid.UUID) (pricecache.Entry, error)
}

// ticker runs what is due. Several ticks at once, in any number of replicas, share the work.
type ticker struct {
	store   tickStore
	ingest  ingester
	cache   quoteCache
	log     *slog.Logger
	metrics metrics
	chain   []string      // what provider auto tries, in order
	fresh   time.Duration // how long a quote may serve other jobs than those it was fetched for
	// How long the bodies of raw responses and the runs are kept.
	rawRetention, runsRetention time.Duration
	// stopping is closed when the function is told to stop; nil: never.
	stopping <-chan struct{}

	mu    sync.Mutex
	lanes map[string]*lane
}

// run runs the jobs that are due, or will be within a second, and sweeps the outbox meanwhile. It returns once that is done or
// its time is up. A symbol that fails is recorded in its run; an error means that the database did not answer, and that the
// tick should come again.
func (t *ticker) run(ctx context.Context) error {
	// The timer may give up waiting; what is claimed is finished all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget)
	defer cancel()
	// A function that is told to stop makes no more calls. What is in flight is recorded.
	work, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-t.stopping:
			stop()
		case <-work.Done():
		}
	}()
	swept := make(chan error, 1)
	go func() {
		published, err := t.ingest.Sweep(work, sweepWidth)
		t.metrics.swept.Add(published)
		swept <- err
	}()
	if err := errors.Join(t.runJobs(ctx, work), <-swept); err != nil {
		return err
	}
	if isOver(ctx) {
		return nil // the next tick has time
	}
	return t.chores(ctx, work)
}

func isOver(ctx context.Context) bool { return ctx.Err() != nil }

// chores are what any tick may do for the tables, a little each time.
func (t *ticker) chores(ctx, work context.Context) error {
	if err := t.store.forgetKeys(ctx); err != nil {
		return err
	}
	for range runsBatches {
		if n, err := t.store.dropRuns(ctx, t.runsRetention, runsBatch); err != nil || n < runsBatch {
			if err != nil {
				return err
			}
			break
		}
		if isOver(work) {
			return nil
		}
	}
	_, err := t.ingest.DropBodies(ctx, t.rawRetention, dropBatch)
	return err
}

// runJobs runs each provider's jobs on their own, so that none waits for another's provider: first what is due, and, after
// the look-ahead, what has become due meanwhile. Calls end early enough to write down what came of them.
func (t *ticker) runJobs(ctx, work context.Context) error {
	calls, cancel := context.WithTimeout(work, tickBudget-bookkeeping)
	defer cancel()
	now, providers, err := t.store.due(ctx, lookAhead)
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
				if pause(calls, lookAhead) {
					errs[2*i+1] = t.runProvider(ctx, calls, p.Provider, now.Add(lookAhead))
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// runProvider runs the provider's jobs that were due at until, pass by pass.
func (t *ticker) runProvider(ctx, calls context.Context, provider string, until time.Time) error {
	for !isOver(calls) {
		p, err := t.begin(ctx, provider, until)
		if err != nil || len(p.claims) == 0 {
			return err
		}
		if err := p.run(ctx, calls); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for d; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

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
	bookkeeping = 3 * time.Second  // of that, kept for telling the database what came of it
	claimBatch  = 50               // jobs taken at a time
	sweepWidth  = 200              // outbox rows in flight at a time
	renewalStep = lease / 3
	dropBatch   = 1000 // raw bodies dropped by a tick: more than come in between two
)

type tickStore interface {
	claim(ctx context.Context, limit int) ([]claim, error)
	renew(ctx context.Context, claims []claim) error
	complete(ctx context.Context, c claim, results []result) (recorded bool, err error)
	forgetKeys(ctx context.Context) error
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

// ticker runs what is due. Several at once, in any number of copies, share the work.
type ticker struct {
	store   tickStore
	ingest  ingester
	cache   quoteCache
	log     *slog.Logger
	metrics metrics
	// retention is how long raw bodies are kept.
	retention time.Duration
	// stopping is closed when the function is told to stop; nil: never.
	stopping <-chan struct{}
}

// run claims and runs due jobs until none is left or its time is up, and sweeps the outbox beside: however long the jobs
// take, what is stored goes out. A symbol that fails is recorded in its run; an error means that the database did not
// answer, and the tick should come again.
func (t *ticker) run(ctx context.Context) error {
	// The timer may give up waiting; what is claimed is finished all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget)
	defer cancel()
	// A function that is told to stop asks nobody any more: what is under way is recorded as far as it came.
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
	return t.chores(ctx)
}

func isOver(ctx context.Context) bool { return ctx.Err() != nil }

// chores are what any tick may do for the tables, a little each time.
func (t *ticker) chores(ctx context.Context) error {
	if err := t.store.forgetKeys(ctx); err != nil {
		return err
	}
	_, err := t.ingest.DropBodies(ctx, t.retention, dropBatch)
	return err
}

// runJobs runs jobs while work lasts, at most until it is time for the last of the bookkeeping.
func (t *ticker) runJobs(ctx, work context.Context) error {
	calls, cancel := context.WithTimeout(work, tickBudget-bookkeeping)
	defer cancel()
	for !isOver(calls) {
		claims, err := t.store.claim(ctx, claimBatch)
		if err != nil {
			return err
		}
		if len(claims) == 0 {
			break
		}
		if err := t.runClaims(ctx, calls, claims); err != nil {
			return err
		}
	}
	return nil
}

// runClaims fetches what the claims want while calls lasts, and records each run as soon as it is complete: a job does not wait
// for another's provider.
func (t *ticker) runClaims(ctx, calls context.Context, claims []claim) error {
	stop := t.keepLeases(ctx, claims)
	defer stop()
	r := t.begin(calls, claims)
	errs := make([]error, len(claims))
	var wg sync.WaitGroup
	for i, c := range claims {
		wg.Go(func() { errs[i] = t.record(ctx, c, r) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (t *ticker) record(ctx context.Context, c claim, r *round) error {
	results := make([]result, len(c.config.Symbols))
	for i, s := range c.config.Symbols {
		results[i] = r.result(series{c.config.Provider, s})
	}
	recorded, err := t.store.complete(ctx, c, results)
	if err != nil {
		return err
	}
	if recorded {
		t.metrics.runs.Inc()
	} else { // deleted meanwhile, or slower than its lease
		t.log.InfoContext(ctx, "run not recorded: the job is no longer ours", "job_id", c.jobID)
	}
	return nil
}

// keepLeases renews until stopped.
func (t *ticker) keepLeases(ctx context.Context, claims []claim) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		renewal := time.NewTicker(renewalStep)
		defer renewal.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-renewal.C:
				if err := t.store.renew(ctx, claims); err != nil {
					t.log.WarnContext(ctx, "lease not renewed", "err", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

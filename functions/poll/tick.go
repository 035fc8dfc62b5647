package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

const (
	tickBudget  = 20 * time.Second // below the platform's timeout of 25 s
	claimBatch  = 50               // jobs taken at a time
	fetchers    = 8                // upstream calls at a time
	sweepWidth  = 200              // outbox rows in flight at a time
	renewalStep = lease / 3
)

type tickStore interface {
	claim(ctx context.Context, limit int) ([]claim, error)
	renew(ctx context.Context, claims []claim) error
	complete(ctx context.Context, c claim, results []result) (recorded bool, err error)
	forgetKeys(ctx context.Context) error
}

type ingester interface {
	Fetch(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error)
	Sweep(ctx context.Context, width int) (published int, err error)
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
}

// run claims and runs due jobs until none is left or its time is up, and sweeps the outbox beside: however long the jobs
// take, what is stored goes out. A symbol that fails is recorded in its run; an error means that the database did not
// answer, and the tick should come again.
func (t *ticker) run(ctx context.Context) error {
	// The timer may give up waiting; what is claimed is finished all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget)
	defer cancel()
	swept := make(chan error, 1)
	go func() {
		published, err := t.ingest.Sweep(ctx, sweepWidth)
		t.metrics.swept.Add(published)
		swept <- err
	}()
	if err := errors.Join(t.runJobs(ctx), <-swept); err != nil {
		return err
	}
	return t.store.forgetKeys(ctx)
}

func (t *ticker) runJobs(ctx context.Context) error {
	for ctx.Err() == nil {
		claims, err := t.store.claim(ctx, claimBatch)
		if err != nil {
			return err
		}
		if len(claims) == 0 {
			break
		}
		if err := t.runClaims(ctx, claims); err != nil {
			return err
		}
	}
	return nil
}

// series is what is fetched once however many jobs want it.
type series struct {
	provider string
	symbol   market.Symbol
}

func (t *ticker) runClaims(ctx context.Context, claims []claim) error {
	stop := t.keepLeases(ctx, claims)
	defer stop()
	fetched := t.fetchAll(ctx, claims)
	for _, c := range claims {
		results := make([]result, len(c.config.Symbols))
		for i, s := range c.config.Symbols {
			results[i] = fetched[series{c.config.Provider, s}]
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

func (t *ticker) fetchAll(ctx context.Context, claims []claim) map[series]result {
	var order []series // as claimed: oldest attempt first
	results := map[series]result{}
	for _, c := range claims {
		for _, s := range c.config.Symbols {
			k := series{c.config.Provider, s}
			if _, known := results[k]; !known {
				results[k] = result{}
				order = append(order, k)
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	queue := make(chan series)
	for range min(fetchers, len(order)) {
		wg.Go(func() {
			for k := range queue {
				r := t.fetch(ctx, k)
				mu.Lock()
				results[k] = r
				mu.Unlock()
			}
		})
	}
	for _, k := range order {
		queue <- k
	}
	close(queue)
	wg.Wait()
	return results
}

func (t *ticker) fetch(ctx context.Context, k series) result {
	r := result{Symbol: k.symbol}
	got, err := t.ingest.Fetch(ctx, k.provider, k.symbol)
	if err != nil {
		code := fault.CodeOf(err)
		r.Code = &code
		t.metrics.fetches(k.provider, code).Inc()
		t.log.WarnContext(ctx, "fetch failed", "provider", k.provider, "symbol", k.symbol, "code", code, "err", err)
		return r
	}
	t.metrics.fetches(k.provider, "ok").Inc()
	r.Price, r.ObservedAt = &got.Quote.Price, &got.Quote.ObservedAt
	if _, err := t.cache.Put(ctx, got.Quote, got.RawResponseID); err != nil {
		t.log.WarnContext(ctx, "cache not written", "err", err)
	}
	return r
}

type metrics struct {
	runs  *vm.Counter // recorded
	swept *vm.Counter // events published by the sweep
	set   *vm.Set
}

func newMetrics(set *vm.Set) metrics {
	return metrics{set.NewCounter("poll_runs_total"), set.NewCounter("outbox_swept_total"), set}
}

// fetches counts quotes fetched, by outcome: ok or the code of the problem.
func (m metrics) fetches(provider, outcome string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("poll_fetches_total{provider=%q,outcome=%q}", provider, outcome))
}

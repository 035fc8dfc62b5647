package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

const (
	// Lease is how long a series is claimed for one answer: a call and its transaction. It is not renewed; whoever is slower stores nothing.
	Lease    = 20 * time.Second
	callTime = 10 * time.Second
	lanes    = 4 // answers of one provider at a time, in this process
)

// Store holds series and the leases on them. Its clock is the only one that counts. Errors are faults; ErrLost means that the token no
// longer holds the series. [store.Store] is one.
type Store interface {
	// DueSeries counts the series that are due, by provider.
	DueSeries(ctx context.Context) (map[string]int, error)
	// ClaimSeries leases the series of the provider that is due for the longest time; ok is false if there is none.
	ClaimSeries(ctx context.Context, provider string, token uuid.UUID) (c Claim, ok bool, err error)
	// KeepTx writes a series, ends its lease, and returns the id for the raw response of its bars: greater than all before in this series of
	// bars.
	KeepTx(ctx context.Context, tx pgx.Tx, c Claim, next Series) (uuid.UUID, error)
	// Fail writes when a series is asked again, and why not now, and ends its lease.
	Fail(ctx context.Context, c Claim, next Series) error
	// Restart begins a new generation of a series of bars, for all backfills that fill it, and ends their leases.
	Restart(ctx context.Context, c Claim) error
	// Behind counts the series that should have been asked for more than a minute ago.
	Behind(ctx context.Context) (int, error)
}

// ErrLost means that a series was taken over, restarted or deleted meanwhile: what was fetched does not count.
var ErrLost = fault.New(fault.NotFound, fault.CodeNotFound, "the series is no longer held")

// Claim is a series that a runner has leased.
type Claim struct {
	Series
	BackfillID string
	Token      uuid.UUID
	Now        time.Time // the store's
}

// Ingest fetches and stores bars. [ingest.Ingester] is one.
type Ingest interface {
	ReserveSpare(ctx context.Context, provider string) error
	FetchBars(ctx context.Context, provider string, symbol market.Symbol, interval market.Interval, from, to time.Time) (market.History, market.Response, error)
	StoreBars(ctx context.Context, b ingest.Bars, progress func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error)) error
}

// RunnerConfig is what a Runner needs.
type RunnerConfig struct {
	Store  Store
	Ingest Ingest
	Log    *slog.Logger
	// Count is called for each answer with its outcome: ok, split, or the code of the problem; bars is how many were stored. Behind is called
	// at the end of a run.
	Count  func(provider, outcome string, bars int)
	Behind func(series int)
	// Stopping is closed when the function is told to stop; nil: never.
	Stopping <-chan struct{}
}

// Runner fetches what is due. All ticks of a process share one. Safe for concurrent use.
type Runner struct {
	RunnerConfig

	kicks sync.WaitGroup
	mu    sync.Mutex
	lanes map[string]chan struct{} // slots, by provider
}

// New returns a Runner.
func New(c RunnerConfig) *Runner { return &Runner{RunnerConfig: c, lanes: map[string]chan struct{}{}} }

// kickTime bounds a run that no tick waits for.
const kickTime = 10 * time.Second

// Kick runs what is due in the background, so that a new backfill does not wait for the next tick. If the replica ends before, or is
// given no CPU between requests, the next tick does it.
func (r *Runner) Kick(ctx context.Context) {
	r.kicks.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), kickTime)
		defer cancel()
		calls, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			select {
			case <-r.Stopping:
				stop()
			case <-calls.Done():
			}
		}()
		if err := r.Run(ctx, calls); err != nil {
			r.Log.WarnContext(ctx, "backfill left to the next tick", "err", err)
		}
	})
}

// Wait waits for the runs that [Runner.Kick] started. Do not call Kick after it.
func (r *Runner) Wait() { r.kicks.Wait() }

// Run fetches answers for the series that are due, of each provider on its own, until none is left or calls ends. What is in flight then
// is written until ctx ends. A provider that fails is left alone until the next run. An error means that the database does not answer.
func (r *Runner) Run(ctx, calls context.Context) error {
	due, err := r.Store.DueSeries(ctx)
	if err != nil || calls.Err() != nil {
		return err
	}
	errs := make(chan error, lanes*len(due)+1)
	var wg sync.WaitGroup
	for provider, series := range due {
		claims, stop := context.WithCancel(calls)
		defer stop()
		slots := r.slots(provider)
		for range min(series, lanes) {
			wg.Go(func() {
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
					errs <- r.lane(ctx, calls, claims, stop, provider)
				default: // another run of this process is at work
				}
			})
		}
	}
	wg.Wait()
	behind, err := r.Store.Behind(ctx)
	if err == nil {
		r.Behind(behind)
	}
	errs <- err
	close(errs)
	for e := range errs {
		err = cmp.Or(err, e) // the database does not answer: one lane says what all say
	}
	return err
}

func (r *Runner) slots(provider string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes[provider] == nil {
		r.lanes[provider] = make(chan struct{}, lanes)
	}
	return r.lanes[provider]
}

// lane takes series of a provider one after the other until claims ends. It calls stop, which ends claims, if no lane should go on. Calls in
// flight are left alone: they are paid for, and a budget with room for one call would be spent on calls that the next lane cuts off.
func (r *Runner) lane(ctx, calls, claims context.Context, stop func(), provider string) error {
	for claims.Err() == nil {
		c, ok, err := r.Store.ClaimSeries(ctx, provider, uuid.New())
		if err != nil || !ok {
			return err
		}
		err = r.step(ctx, calls, c)
		switch code := fault.CodeOf(err); {
		case err == nil, errors.Is(err, ErrLost):
		case code == fault.CodeSymbolNotFound, code == fault.CodeProviderMalformed: // others may fare better
		case code == fault.CodeStorageUnavailable:
			stop()
			return err
		default:
			stop()
		}
	}
	return nil
}

// step makes the next call for a series, and writes what follows from the answer.
func (r *Runner) step(ctx, calls context.Context, c Claim) error {
	err := r.ask(ctx, calls, c)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrLost):
		r.Log.InfoContext(ctx, "bars dropped: the series was restarted, deleted or taken over", "backfill_id", c.BackfillID, "symbol", c.Symbol)
		return err
	}
	code := fault.CodeOf(err)
	r.Count(c.Provider, code, 0)
	next := c.Failed(err, c.Now)
	if calls.Err() != nil { // interrupted: that says nothing about the provider
		next = c.Series
		next.NotBefore = c.Now
	} else if code != fault.CodeProviderRateLimited {
		r.Log.WarnContext(ctx, "backfill failed", "backfill_id", c.BackfillID, "provider", c.Provider, "symbol", c.Symbol, "code", code,
			"retry_ms", next.NotBefore.Sub(c.Now).Milliseconds(), "err", err)
	}
	if failed := r.Store.Fail(ctx, c, next); failed != nil && !errors.Is(failed, ErrLost) {
		return failed
	}
	return err
}

func (r *Runner) ask(ctx, calls context.Context, c Claim) (err error) {
	defer func() {
		if v := recover(); v != nil { // of an adapter; its value may hold a key
			err = fmt.Errorf("panic: %T\n%s", v, debug.Stack())
		}
	}()
	calls, cancel := context.WithTimeout(calls, callTime)
	defer cancel()
	if err := r.Ingest.ReserveSpare(calls, c.Provider); err != nil {
		return err
	}
	step := c.Plan(c.Now)
	history, response, err := r.Ingest.FetchBars(calls, c.Provider, c.Symbol, step.Interval, step.From, step.To)
	if err != nil {
		return err
	}
	next, send, split, err := c.Read(step, history, c.Now)
	switch {
	case err != nil:
		return err
	case split:
		r.Log.InfoContext(ctx, "closes are in other shares: the history is fetched again", "backfill_id", c.BackfillID, "provider", c.Provider,
			"symbol", c.Symbol, "generation", c.Generation+1)
		r.Count(c.Provider, "split", 0)
		return r.Store.Restart(ctx, c)
	}
	bars := ingest.Bars{Symbol: c.Symbol, Series: market.BarSeries(c.Provider, c.Interval), Bars: send, Response: response}
	err = r.Ingest.StoreBars(ctx, bars, func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error) { return r.Store.KeepTx(ctx, tx, c, next) })
	if err != nil {
		return err
	}
	r.Count(c.Provider, "ok", len(send))
	if next.Complete && !c.Complete {
		r.Log.InfoContext(ctx, "history is complete", "backfill_id", c.BackfillID, "provider", c.Provider, "symbol", c.Symbol, "bars", next.Bars)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"time"

	"marketdata/shared/coalesce"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
)

// What one replica holds at most: beyond it events are refused as Unavailable, and the platform brings them again.
const (
	maxBatch      = 200 // events in one transaction
	maxQueue      = 2_000
	commitTimeout = 10 * time.Second // well below the 25 s that the platform gives a request
)

// applier commits events that are in flight at the same time in one transaction.
type applier struct {
	coalescer *coalesce.Coalescer[priceevent.Observation, effect]
}

type batchStore interface {
	apply(ctx context.Context, all []priceevent.Observation) ([]effect, error)
}

func newApplier(s batchStore, observe func(events int, took time.Duration)) *applier {
	commit := func(ctx context.Context, all []priceevent.Observation) ([]effect, error) {
		began := time.Now()
		effects, err := s.apply(ctx, all)
		observe(len(all), time.Since(began))
		return effects, err
	}
	return &applier{coalescer: coalesce.New(commit, coalesce.Options{
		MaxBatch: maxBatch, MaxQueue: maxQueue, Timeout: commitTimeout, Split: spoilsBatch,
	})}
}

// spoilsBatch reports an error that a single event may have brought over the whole batch: SQLSTATE class 21 (cardinality
// violation), 22 (data exception) and 23 (integrity constraint violation), and a panic.
func spoilsBatch(err error) bool {
	switch postgres.Class(err) {
	case "21", "22", "23":
		return true
	}
	_, panicked := errors.AsType[*coalesce.PanicError](err)
	return panicked
}

// apply returns once o's effect is committed. Errors are faults: storage_refused and panic (Invalid) where o alone failed so; overloaded, shutting_down, cancelled
// and storage_unavailable (Unavailable).
func (a *applier) apply(ctx context.Context, o priceevent.Observation) (effect, error) {
	did, err := a.coalescer.Do(ctx, o)
	if err == nil {
		err = did.held
	}
	return did, a.classify(ctx, err)
}

func (a *applier) classify(ctx context.Context, err error) error {
	panicked, isPanic := errors.AsType[*coalesce.PanicError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, coalesce.ErrFull):
		return fault.Wrap(err, fault.Unavailable, priceevent.CodeOverloaded, "too many events are in flight").After(time.Second)
	case errors.Is(err, coalesce.ErrClosed):
		return fault.Wrap(err, fault.Unavailable, "shutting_down", "this replica is about to stop").After(time.Second)
	case isPanic:
		return fault.Wrap(panicked, fault.Invalid, priceevent.CodePanic, "the function failed on this event")
	case ctx.Err() != nil:
		return fault.Wrap(err, fault.Unavailable, "cancelled", "the caller went away")
	}
	return postgres.Classify(err)
}

// close commits what waits.
func (a *applier) close() { a.coalescer.Close() }

package store

import (
	"context"
	"errors"
	"time"

	"marketdata/shared/coalesce"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/trace"
)

// Limits of one replica. Events beyond them are refused as Unavailable, and the platform delivers them again.
const (
	maxBatch = 200 // events in one transaction
	maxQueue = 2_000
	// CommitTimeout is for one transaction: well below the 45 s that the platform gives a request.
	CommitTimeout = 10 * time.Second
)

// Batcher commits the events that are in flight at the same time in one transaction. Safe for concurrent use.
type Batcher struct {
	coalescer *coalesce.Coalescer[event, Effect]
}

type event struct {
	observation priceevent.Observation
	span        trace.Span
}

type applier interface {
	Apply(ctx context.Context, all []priceevent.Observation) ([]Effect, error)
}

// NewBatcher returns a Batcher for s. It calls observe after each transaction with the number of events and the time taken.
func NewBatcher(s applier, observe func(events int, took time.Duration)) *Batcher {
	commit := func(ctx context.Context, events []event) ([]Effect, error) {
		ctx, span := trace.StartBatch(ctx, "commit", events, func(e *event) trace.Span { return e.span })
		all := make([]priceevent.Observation, len(events))
		for i, e := range events {
			all[i] = e.observation
		}
		began := time.Now()
		effects, err := s.Apply(ctx, all)
		span.End(postgres.Classify(err))
		observe(len(all), time.Since(began))
		return effects, err
	}
	return &Batcher{coalescer: coalesce.New(commit, coalesce.Options{
		MaxBatch: maxBatch, MaxQueue: maxQueue, Timeout: CommitTimeout, Split: spoilsBatch,
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

// Commit returns once the effect of o is committed; it is never Held. Errors are faults: storage_refused and panic (Invalid) if
// o alone fails so; overloaded, shutting_down, cancelled and storage_unavailable (Unavailable).
func (b *Batcher) Commit(ctx context.Context, o priceevent.Observation) (Effect, error) {
	effect, err := b.coalescer.Do(ctx, event{o, trace.Current(ctx)})
	if err != nil {
		return Effect{}, classify(ctx, err)
	}
	if effect.Outcome == Held {
		return Effect{}, fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "another transaction holds the series").After(holdMemory)
	}
	return effect, nil
}

func classify(ctx context.Context, err error) error {
	panicked, isPanic := errors.AsType[*coalesce.PanicError](err)
	switch {
	case errors.Is(err, coalesce.ErrFull):
		return fault.Wrap(err, fault.Unavailable, fault.CodeOverloaded, "too many events are in flight").After(time.Second)
	case errors.Is(err, coalesce.ErrClosed):
		return fault.Wrap(err, fault.Unavailable, fault.CodeShuttingDown, "this replica is about to stop").After(time.Second)
	case isPanic:
		return fault.Wrap(panicked, fault.Invalid, fault.CodePanic, "the function failed on this event")
	case ctx.Err() != nil:
		return fault.Wrap(err, fault.Unavailable, fault.CodeCancelled, "the caller went away")
	}
	return postgres.Classify(err)
}

// Close commits what waits, and refuses what comes later.
func (b *Batcher) Close() { b.coalescer.Close() }

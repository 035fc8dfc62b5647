// Package ingest brings a price from a provider into the pipeline: fetch, store, publish.
//
// A fetched quote is stored as raw response and outbox row in one transaction, then published; the outbox row is deleted
// once the broker has acknowledged the event. So what is stored is published at least once, whatever dies in between: a
// sweep ([Ingester.Sweep]) publishes what was left behind. Consumers are idempotent, so "at least" is enough.
//
// Quotes that are stored at about the same time share a transaction, and so do deletes, which nobody waits for (store.go).
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"

	"marketdata/shared/coalesce"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/request"
)

const (
	storeWait   = 3 * time.Second // for the transaction, connecting included
	publishWait = time.Second     // for the broker's acknowledgement, before the event is left to the sweeper
)

// publishAtOnce is how many events wait for their acknowledgement before others are left to the sweeper: many more than a broker
// that answers lets come together.
const publishAtOnce = 1000

var errManyUnacknowledged = errors.New("too many events wait for the broker")

// maxAhead is how far a quote's time may lie ahead of our clock; beyond that the quote counts as observed now.
const maxAhead = 5 * time.Minute

// Overhead bounds what [Ingester.Fetch] may take beside the provider's call.
const Overhead = storeWait + 500*time.Millisecond // which is our own work, on a machine that is busy

// Publisher produces one record and waits for its acknowledgement.
type Publisher interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// Budget spends calls of a provider. It is asked just before each call; an error (provider_rate_limited,
// storage_unavailable) means that none may be made.
type Budget interface {
	Take(ctx context.Context, provider string) error
}

// Ingester fetches, stores and publishes. Safe for concurrent use.
type Ingester struct {
	pool      postgres.DB
	publisher Publisher
	providers map[string]market.Provider
	log       *slog.Logger
	now       func() time.Time
	topic     string
	budget    Budget // nil: calls are free
	metrics   *metrics.Set
	stores    *coalesce.Coalescer[stored, int64]
	deletes   *coalesce.Coalescer[int64, struct{}]
	// A place for each event that waits for its acknowledgement.
	publishing chan struct{}
}

// New makes an ingester over the providers by name. Close it before the pool.
func New(pool postgres.DB, publisher Publisher, providers map[string]market.Provider, log *slog.Logger) *Ingester {
	in := &Ingester{
		pool: pool, publisher: publisher, providers: providers, log: log, now: time.Now, topic: priceevent.Topic, metrics: metrics.NewSet(),
		publishing: make(chan struct{}, publishAtOnce),
	}
	in.stores = coalesce.New(in.storeAll, storesTogether)
	in.deletes = coalesce.New(in.deleteAll, deletesTogether)
	return in
}

// Close waits for the events, transactions and deletes under way. Call it once no fetch and no sweep runs.
func (in *Ingester) Close() {
	fill(in.publishing)
	in.stores.Close()
	in.deletes.Close()
}

// Within makes the ingester ask the budget before each call. Call it before the first Fetch.
func (in *Ingester) Within(b Budget) *Ingester {
	in.budget = b
	return in
}

// Known reports whether the provider's name is one of ours.
func (in *Ingester) Known(provider string) bool { return in.providers[provider] != nil }

// Providers are the names of all providers, sorted.
func (in *Ingester) Providers() []string { return slices.Sorted(maps.Keys(in.providers)) }

// Result is a quote that is stored, and the raw response it came from.
type Result struct {
	Quote         market.Quote
	RawResponseID uuid.UUID
}

// Fetch gets one quote and returns once it is stored; the event is published right after. Errors are faults:
// unknown_provider (Invalid), symbol_not_found (NotFound), provider_* and storage_unavailable (Unavailable). After an
// error nothing is stored, unless the error is storage_unavailable: the commit may have happened.
func (in *Ingester) Fetch(ctx context.Context, provider string, symbol market.Symbol) (Result, error) {
	if err := in.Reserve(ctx, provider); err != nil {
		return Result{}, err
	}
	return in.FetchReserved(ctx, time.Time{}, provider, symbol)
}

// Reserve spends one call of the provider's budget, for a [Ingester.FetchReserved] that must follow. unknown_provider (Invalid);
// provider_rate_limited (Unavailable): the budget is spent, and RetryAfter says until when; storage_unavailable (Unavailable).
func (in *Ingester) Reserve(ctx context.Context, provider string) error {
	switch {
	case in.providers[provider] == nil:
		return fault.New(fault.Invalid, "unknown_provider", "there is no provider %q", provider)
	case in.budget == nil:
		return nil
	}
	return in.budget.Take(ctx, provider)
}

// FetchReserved is Fetch with a call that was reserved, for a planned time: a quote to which the provider gives no time counts
// as observed then, so that the same plan, carried out twice, makes one point. Zero means no planned time.
func (in *Ingester) FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (Result, error) {
	p := in.providers[provider]
	if p == nil {
		return Result{}, fault.New(fault.Invalid, "unknown_provider", "there is no provider %q", provider)
	}
	quote, resp, err := p.Latest(ctx, symbol)
	in.called(provider, err)
	if err != nil {
		return Result{}, fmt.Errorf("fetch %s from %s: %w", symbol, provider, err)
	}
	if quote.Undated && !planned.IsZero() {
		quote.ObservedAt = planned
	}
	// A provider's clock that is wrong would keep every later price behind this one: in the cache, and in the averages.
	if now := in.now(); quote.ObservedAt.After(now.Add(maxAhead)) {
		quote.ObservedAt = now
	}
	quote.ObservedAt = quote.ObservedAt.UTC().Truncate(time.Microsecond)
	id, err := uuid.NewV7()
	if err != nil {
		return Result{}, fmt.Errorf("make id: %w", err)
	}
	o := priceevent.Observation{
		Symbol: quote.Symbol, Provider: quote.Provider, Price: quote.Price, ObservedAt: quote.ObservedAt, RawResponseID: id,
	}
	// What the consumer would refuse must not be stored: it would only become a dead letter.
	if err := o.Validate(in.now()); err != nil {
		return Result{}, fault.Wrap(err, fault.Unavailable, "provider_malformed", "the provider's quote is not usable")
	}
	record, err := in.record(ctx, o)
	if err != nil {
		return Result{}, err
	}
	rowID, err := in.store(ctx, stored{o, resp, record})
	if err != nil {
		return Result{}, err
	}
	in.publish(context.WithoutCancel(ctx), rowID, record)
	return Result{quote, id}, nil
}

func (in *Ingester) record(ctx context.Context, o priceevent.Observation) (kafkaclient.Record, error) {
	m, err := priceevent.Encode(o)
	if err != nil {
		return kafkaclient.Record{}, err
	}
	if t := request.Traceparent(ctx); t != "" {
		m.Headers["traceparent"] = t
	}
	return kafkaclient.Record{Topic: in.topic, Key: []byte(m.Key), Value: m.Value, Headers: sortedHeaders(m.Headers)}, nil
}

// storageError makes every failure to store Unavailable: the values were validated, so a refusal is our own defect, and
// the client can do no more than try again.
func storageError(err error) error {
	if err := postgres.Classify(err); fault.KindOf(err) == fault.Unavailable {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "storage_unavailable", "the price could not be stored").After(time.Second)
}

// publish tries once, and what fails stays in the outbox. The quote is safe already, so nobody waits: a broker that is slow or
// away must not cost a client anything.
func (in *Ingester) publish(ctx context.Context, rowID int64, r kafkaclient.Record) {
	select {
	case in.publishing <- struct{}{}:
	default:
		in.log.WarnContext(ctx, "event left to the outbox sweep", "outbox_id", rowID, "err", errManyUnacknowledged)
		return
	}
	go func() {
		defer func() { <-in.publishing }()
		if err := in.produce(ctx, publishWait, r); err != nil {
			in.log.WarnContext(ctx, "event left to the outbox sweep", "outbox_id", rowID, "err", err)
			return
		}
		in.forget(ctx, rowID)
	}()
}

func (in *Ingester) produce(ctx context.Context, wait time.Duration, r kafkaclient.Record) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return in.publisher.Produce(ctx, r)
}

// Package ingest brings a price from a provider into the pipeline: fetch, store, publish.
//
// A fetched quote is stored as raw response and outbox row in one transaction, then published. The outbox row is deleted once the
// broker has acknowledged the event. A sweep ([Ingester.Sweep]) publishes rows that a crash or a broker error left behind, so every
// stored quote is published at least once. That is enough: consumers are idempotent.
//
// Quotes that are stored at about the same time share a transaction. So do deletes, which happen in the background (store.go).
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
	"marketdata/shared/trace"
)

const (
	storeWait   = 3 * time.Second // for the transaction, including the connection
	publishWait = time.Second     // for the broker's acknowledgement; then the event is left to the sweep
)

// publishAtOnce is the most events that await their acknowledgement; further ones are left to the sweep. It is far more than
// accumulate while the broker answers.
const publishAtOnce = 1000

var errManyUnacknowledged = errors.New("too many events await the broker's acknowledgement")

// maxAhead is how far a quote's time may be ahead of our clock. A quote with a later time counts as observed now.
const maxAhead = 5 * time.Minute

// Overhead bounds the time that [Ingester.Fetch] takes in addition to the provider call.
const Overhead = storeWait + 500*time.Millisecond // 500 ms for our own work on a busy machine

// Publisher produces one record and waits for its acknowledgement.
type Publisher interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// Budget spends calls to a provider, just before each call; after an error (provider_rate_limited, storage_unavailable) the call must
// not be made. TakeSpare is for a call for bars, which leaves room for quotes.
type Budget interface {
	Take(ctx context.Context, provider string) error
	TakeSpare(ctx context.Context, provider string) error
}

// Ingester fetches, stores and publishes. Safe for concurrent use.
type Ingester struct {
	pool      postgres.DB
	publisher Publisher
	providers map[string]market.Provider
	log       *slog.Logger
	now       func() time.Time
	topic     string
	budget    Budget // nil: no limit
	metrics   *metrics.Set
	stores    *coalesce.Coalescer[stored, int64]
	deletes   *coalesce.Coalescer[int64, struct{}]
	// A slot for each event that awaits its acknowledgement. Those of bars have slots of their own, so that quotes do not wait for them.
	publishing, publishingBars chan struct{}
}

// New returns an ingester for the providers, by name, which publishes to a topic. Close it before the pool.
func New(pool postgres.DB, publisher Publisher, topic string, providers map[string]market.Provider, log *slog.Logger) *Ingester {
	in := &Ingester{
		pool: pool, publisher: publisher, providers: providers, log: log, now: time.Now, topic: topic, metrics: metrics.NewSet(),
		publishing: make(chan struct{}, publishAtOnce), publishingBars: make(chan struct{}, publishAtOnce),
	}
	in.stores = coalesce.New(in.storeAll, storesTogether)
	in.deletes = coalesce.New(in.deleteAll, deletesTogether)
	return in
}

// Close waits for the events, transactions and deletes in flight. No fetch and no sweep may be running.
func (in *Ingester) Close() {
	fill(in.publishing)
	fill(in.publishingBars)
	in.stores.Close()
	in.deletes.Close()
}

// Within sets the budget that is spent by each call to a provider. Call it before the first Fetch.
func (in *Ingester) Within(b Budget) *Ingester {
	in.budget = b
	return in
}

// Known reports whether there is a provider of that name.
func (in *Ingester) Known(provider string) bool { return in.providers[provider] != nil }

// Providers returns the names of all providers, sorted.
func (in *Ingester) Providers() []string { return slices.Sorted(maps.Keys(in.providers)) }

// Result is a stored quote, and the id of the raw response that it was read from.
type Result struct {
	Quote         market.Quote
	RawResponseID uuid.UUID
}

// Fetch fetches one quote and returns once it is stored; the event is published right after. Errors are faults: unknown_provider
// (Invalid), symbol_not_found (NotFound), provider_* and storage_unavailable (Unavailable). After an error nothing is stored,
// except that after storage_unavailable the commit may have happened.
func (in *Ingester) Fetch(ctx context.Context, provider string, symbol market.Symbol) (Result, error) {
	if err := in.Reserve(ctx, provider); err != nil {
		return Result{}, err
	}
	return in.FetchReserved(ctx, time.Time{}, provider, symbol)
}

// Reserve spends one call of the provider's budget, for a [Ingester.FetchReserved] that must follow. Errors are unknown_provider
// (Invalid), provider_rate_limited (Unavailable; RetryAfter is the time until a call is possible) and storage_unavailable
// (Unavailable).
func (in *Ingester) Reserve(ctx context.Context, provider string) error {
	switch {
	case in.providers[provider] == nil:
		return fault.New(fault.Invalid, fault.CodeUnknownProvider, "unknown provider %q", provider)
	case in.budget == nil:
		return nil
	}
	return in.budget.Take(ctx, provider)
}

// FetchReserved is Fetch for a reserved call. A quote without a time of the provider counts as observed at the planned time, so
// that a plan that is carried out twice makes one point. Zero means no planned time.
func (in *Ingester) FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (result Result, err error) {
	p := in.providers[provider]
	if p == nil {
		return Result{}, fault.New(fault.Invalid, fault.CodeUnknownProvider, "unknown provider %q", provider)
	}
	ctx, span := trace.Start(ctx, trace.Internal, "fetch", provider)
	defer func() { span.End(err) }()
	span.Text("marketdata.symbol", string(symbol))
	quote, resp, err := p.Latest(ctx, symbol)
	in.called(provider, err)
	if err != nil {
		return Result{}, fmt.Errorf("fetch %s from %s: %w", symbol, provider, err)
	}
	if quote.Undated && !planned.IsZero() {
		quote.ObservedAt = planned
	}
	// A quote from the future, due to a provider's wrong clock, would count as newer than all later ones in the cache and the
	// averages.
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
	// An event that the consumer would refuse is not stored: it would only become a dead letter.
	if err := o.Validate(in.now()); err != nil {
		return Result{}, fault.Wrap(err, fault.Unavailable, fault.CodeProviderMalformed, "the provider's quote is not usable")
	}
	record, err := in.record(ctx, o)
	if err != nil {
		return Result{}, err
	}
	rowID, err := in.store(ctx, stored{o, resp, record, trace.Current(ctx)})
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

// storageError returns every storage error as Unavailable: the values were validated, so a refusal by the database is a defect of
// ours, and all that a client can do is retry.
func storageError(err error) error {
	if err := postgres.Classify(err); fault.KindOf(err) == fault.Unavailable {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, fault.CodeStorageUnavailable, "the price could not be stored").After(time.Second)
}

// publish publishes an event once, in the background; after an error it stays in the outbox. The quote is already stored, so a
// slow or unavailable broker must not delay the client.
func (in *Ingester) publish(ctx context.Context, rowID int64, r kafkaclient.Record) {
	select {
	case in.publishing <- struct{}{}:
	default:
		in.log.WarnContext(ctx, "event left to the outbox sweep", "outbox_id", rowID, "err", errManyUnacknowledged)
		return
	}
	go func() {
		defer func() { <-in.publishing }()
		_ = in.publishOnce(ctx, rowID, r)
	}()
}

func (in *Ingester) publishOnce(ctx context.Context, rowID int64, r kafkaclient.Record) error {
	err := in.produce(ctx, publishWait, r)
	if err != nil {
		in.log.WarnContext(ctx, "event left to the outbox sweep", "outbox_id", rowID, "err", err)
		return err
	}
	in.forget(ctx, rowID)
	return nil
}

func (in *Ingester) produce(ctx context.Context, wait time.Duration, r kafkaclient.Record) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return in.publisher.Produce(ctx, r)
}

// Package fetch brings symbols from providers into the pipeline and the cache. Each provider has its own slots and its own gate; a
// call is made only if the provider's budget has room. A symbol that fails, even by a panic, fails alone.
//
// The package knows no jobs, ticks or leases. Start at [Fetcher.Start] and [Fetcher.StartAuto].
package fetch

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

// Budget spends calls of providers. [ingest.Ingester] is one.
type Budget interface {
	// Reserve spends one call. Errors are faults; [fault.CodeProviderRateLimited] says how long it takes until there is room.
	Reserve(ctx context.Context, provider string) error
}

// Ingest makes calls that were reserved, and stores their quotes. [ingest.Ingester] is one.
type Ingest interface {
	FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (ingest.Result, error)
}

// Cache keeps the newest quotes for get-latest. [pricecache.Cache] is one.
type Cache interface {
	Put(ctx context.Context, q market.Quote, id uuid.UUID) (pricecache.Entry, error)
}

// Config is what a Fetcher needs.
type Config struct {
	Budget Budget
	Ingest Ingest
	Cache  Cache
	Chain  []string // the providers that auto tries, in order
	Log    *slog.Logger
	// Count is called for each symbol that was fetched, or failed.
	Count func(provider string, o jobs.Outcome)
}

// Fetcher fetches symbols. All ticks of a process share one. Safe for concurrent use.
type Fetcher struct {
	Config

	mu    sync.Mutex
	lanes map[string]*lane
}

// New returns a Fetcher.
func New(c Config) *Fetcher { return &Fetcher{Config: c, lanes: map[string]*lane{}} }

// Request is a symbol to fetch.
type Request struct {
	Symbol  market.Symbol
	Planned time.Time // the period that it is fetched for, see [ingest.Ingester.FetchReserved]
}

// Result is the outcome of a request.
type Result struct {
	jobs.Result
	// Asked means that a provider was asked, and did not say that its limit is spent: the fetch counts, whatever its outcome.
	Asked bool
	// Outage means that the provider was called and did not answer, or answered with an error of its own or that its limit is spent.
	Outage     bool
	RetryAfter time.Duration // of an outage: how long the provider says to wait; 0: it does not say
}

// Answered reports whether the provider was called and answered, be it with a quote or not. Otherwise nothing is known about it, or there
// is an outage.
func (r Result) Answered() bool {
	switch string(r.Outcome) {
	case string(jobs.OK), fault.CodeSymbolNotFound, fault.CodeProviderMalformed, fault.CodeProviderAuth:
		return r.Asked
	}
	return false
}

func (f *Fetcher) lane(provider string) *lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lanes[provider]
	if l == nil {
		l = newLane(provider)
		f.lanes[provider] = l
	}
	return l
}

// Start waits for a slot and for the provider's budget, then fetches in a goroutine of wg. It calls done once, in this goroutine or
// in that one. No call is made after ctx has ended. Requests that are started one after the other get slots and budget in that order.
func (f *Fetcher) Start(ctx context.Context, wg *sync.WaitGroup, provider string, r Request, done func(Result)) {
	l := f.lane(provider)
	if !l.enter(ctx) {
		done(f.Fail(ctx, provider, r.Symbol, jobs.OutOfTime, nil))
		return
	}
	if outcome, err := f.reserve(ctx, l, true); outcome != jobs.OK {
		l.leave()
		done(f.Fail(ctx, provider, r.Symbol, outcome, err))
		return
	}
	wg.Go(func() {
		defer l.leave()
		done(f.call(ctx, l, r))
	})
}

// reserve spends a call of the provider's budget. A patient caller waits if the budget has room again before ctx ends, so that a plan
// of one call a second still serves a whole job. Otherwise reserve returns the outcome that prevents the call, and its cause if this call
// found it: the cause of a closed gate was logged before.
func (f *Fetcher) reserve(ctx context.Context, l *lane, patient bool) (jobs.Outcome, error) {
	for {
		if isOver(ctx) {
			return jobs.OutOfTime, nil
		}
		if outcome := l.gate(); outcome != jobs.OK {
			return outcome, nil
		}
		err := f.Budget.Reserve(ctx, l.provider)
		if err == nil {
			return jobs.OK, nil
		}
		wait := waitOf(err)
		end, bounded := ctx.Deadline()
		if !patient || codeOf(err) != fault.CodeProviderRateLimited || bounded && !time.Now().Add(wait).Before(end) {
			l.close(err)
			return codeOf(err), err
		}
		Pause(ctx, wait)
	}
}

// call makes a call that was reserved.
func (f *Fetcher) call(ctx context.Context, l *lane, r Request) Result {
	got, err := f.ingest(ctx, l.provider, r)
	l.note(err)
	if err != nil {
		failed := f.Fail(ctx, l.provider, r.Symbol, codeOf(err), err)
		if failed.Asked = failed.Outcome != fault.CodeProviderRateLimited; !failed.Asked {
			l.close(err) // the provider's own count wins over ours
		}
		failed.Outage, failed.RetryAfter = outage(ctx, err)
		return failed
	}
	f.Count(l.provider, jobs.OK)
	return Result{Asked: true, Result: jobs.Result{
		Symbol: r.Symbol, Outcome: jobs.OK, Provider: l.provider, Price: got.Quote.Price, ObservedAt: got.Quote.ObservedAt,
	}}
}

// outage reports whether a call failed because the provider is away. A call that ended with its context says nothing about that.
func outage(ctx context.Context, err error) (bool, time.Duration) {
	f, ok := fault.As(err)
	if !ok || isOver(ctx) {
		return false, 0
	}
	switch f.Code {
	case fault.CodeProviderTimeout, fault.CodeProviderUnavailable, fault.CodeProviderRateLimited:
		return true, f.RetryAfter
	}
	return false, 0
}

// ingest brings one quote into the pipeline and the cache. It turns a panic, of an adapter for example, into an error of this
// symbol. The panic's value is not logged: it may hold what the adapter was working with, such as a key.
func (f *Fetcher) ingest(ctx context.Context, provider string, r Request) (got ingest.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			what := fmt.Sprintf("%T", v)
			if defect, ok := v.(runtime.Error); ok {
				what = defect.Error()
			}
			err = fmt.Errorf("panic: %s\n%s", what, debug.Stack())
		}
	}()
	if got, err = f.Ingest.FetchReserved(ctx, r.Planned, provider, r.Symbol); err != nil {
		return got, err
	}
	// The quote is stored. get-latest should see it even if the tick's time is up.
	if _, err := f.Cache.Put(context.WithoutCancel(ctx), got.Quote, got.RawResponseID); err != nil {
		f.Log.WarnContext(ctx, "cache not written", "err", err)
	}
	return got, nil
}

// Fail returns the result of a symbol that failed, as one for which no provider was asked. It counts the failure, and logs its cause
// if there is one.
func (f *Fetcher) Fail(ctx context.Context, provider string, symbol market.Symbol, code jobs.Outcome, cause error) Result {
	f.Count(provider, code)
	if cause != nil {
		f.Log.WarnContext(ctx, "fetch failed", "provider", provider, "symbol", symbol, "code", code, "err", cause)
	}
	return Result{Result: jobs.Result{Symbol: symbol, Outcome: code}}
}

func isOver(ctx context.Context) bool { return ctx.Err() != nil }

// Pause waits for d. It returns false if ctx ends first.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

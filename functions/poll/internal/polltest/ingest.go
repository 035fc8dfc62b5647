// Package polltest has what tests of several of poll's packages share: a fake of the ingester, and the polling tables. It is for tests
// only.
package polltest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

// Ingest fakes the ingester: a budget, providers and an outbox. It answers every symbol with the price 1.5, but BAD with
// symbol_not_found. The zero Ingest is ready for use. Lock it to look at it while it is in use.
type Ingest struct {
	sync.Mutex
	Calls   map[string]int // by provider and symbol, with a space between them
	Order   []market.Symbol
	Planned map[market.Symbol]time.Time

	Room   func(provider string) error                                            // answers Reserve, under the lock; nil: there is room
	Answer func(ctx context.Context, provider string, symbol market.Symbol) error // comes before a call is counted; an error is its result
	During func(symbol market.Symbol)                                             // comes after a call was counted

	Sweeps     int
	SweepHangs bool          // the broker does not answer
	Dropped    time.Duration // the age given to DropBodies
}

// Reserve asks Room.
func (f *Ingest) Reserve(_ context.Context, provider string) error {
	f.Lock()
	defer f.Unlock()
	if f.Room == nil {
		return nil
	}
	return f.Room(provider)
}

// FetchReserved makes a call.
func (f *Ingest) FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (ingest.Result, error) {
	f.Lock()
	during, answer := f.During, f.Answer
	f.Unlock()
	if answer != nil {
		if err := answer(ctx, provider, symbol); err != nil {
			return ingest.Result{}, err
		}
	}
	f.count(planned, provider, symbol)
	if during != nil {
		during(symbol)
	}
	if symbol == "BAD" {
		return ingest.Result{}, fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
	}
	p, err := market.ParsePrice("1.5")
	if err != nil {
		return ingest.Result{}, err
	}
	return ingest.Result{Quote: market.Quote{Symbol: symbol, Provider: provider, Price: p, ObservedAt: time.Now().UTC().Truncate(time.Microsecond)}}, nil
}

func (f *Ingest) count(planned time.Time, provider string, symbol market.Symbol) {
	f.Lock()
	defer f.Unlock()
	if f.Calls == nil {
		f.Calls, f.Planned = map[string]int{}, map[market.Symbol]time.Time{}
	}
	f.Calls[provider+" "+string(symbol)]++
	f.Order = append(f.Order, symbol)
	f.Planned[symbol] = planned
}

// Sweep publishes nothing.
func (f *Ingest) Sweep(ctx context.Context, _ int) (int, error) {
	f.Lock()
	f.Sweeps++
	hangs := f.SweepHangs
	f.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return 0, nil
}

// DropBodies drops nothing.
func (f *Ingest) DropBodies(_ context.Context, age time.Duration, _ int) (int64, error) {
	f.Lock()
	defer f.Unlock()
	f.Dropped = age
	return 0, nil
}

// Limited returns the error of a budget that has room after wait, and of a provider that says so itself.
func Limited(wait time.Duration) error {
	return fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "x").After(wait)
}

// Hang waits until ctx ends or five seconds have passed, as a call to a provider that hangs does.
func Hang(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	<-ctx.Done()
	return fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x")
}

// Symbols returns S0, S1 and so on.
func Symbols(n int) []market.Symbol {
	all := make([]market.Symbol, n)
	for i := range all {
		all[i] = market.Symbol(fmt.Sprint("S", i))
	}
	return all
}

// NoCache is a cache that keeps nothing.
type NoCache struct{}

// Put does nothing.
func (NoCache) Put(context.Context, market.Quote, uuid.UUID) (pricecache.Entry, error) {
	return pricecache.Entry{}, nil
}

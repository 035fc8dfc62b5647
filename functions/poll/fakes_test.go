package main

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

type fakeIngest struct {
	mu      sync.Mutex
	calls   map[string]int
	order   []market.Symbol
	planned map[market.Symbol]time.Time
	during  func(symbol market.Symbol)
	reserve func(provider string) error                                            // nil: there is room
	answer  func(ctx context.Context, provider string, symbol market.Symbol) error // what comes of a call, before its quote
	sweeps  int
	// sweepHangs is a broker that does not answer.
	sweepHangs bool
	dropped    time.Duration
}

func (f *fakeIngest) Reserve(_ context.Context, provider string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reserve == nil {
		return nil
	}
	return f.reserve(provider)
}

func (f *fakeIngest) FetchReserved(ctx context.Context, planned time.Time, provider string, symbol market.Symbol) (ingest.Result, error) {
	f.mu.Lock()
	during, answer := f.during, f.answer
	f.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, provider, symbol); err != nil {
			return ingest.Result{}, err
		}
	}
	f.mu.Lock()
	f.calls[provider+" "+string(symbol)]++
	f.order = append(f.order, symbol)
	f.planned[symbol] = planned
	f.mu.Unlock()
	if during != nil {
		during(symbol)
	}
	if symbol == "BAD" {
		return ingest.Result{}, fault.New(fault.NotFound, "symbol_not_found", "x")
	}
	p, err := market.ParsePrice("1.5")
	if err != nil {
		return ingest.Result{}, err
	}
	return ingest.Result{Quote: market.Quote{Symbol: symbol, Provider: provider, Price: p, ObservedAt: time.Now().UTC().Truncate(time.Microsecond)}}, nil
}

func (f *fakeIngest) Sweep(ctx context.Context, _ int) (int, error) {
	f.mu.Lock()
	f.sweeps++
	hangs := f.sweepHangs
	f.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return 0, nil
}

func (f *fakeIngest) DropBodies(_ context.Context, age time.Duration, _ int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = age
	return 0, nil
}

// limited is what the ingester says of a budget that has room after wait, and a provider of itself.
func limited(wait time.Duration) error {
	return fault.New(fault.Unavailable, "provider_rate_limited", "x").After(wait)
}

type noCache struct{}

func (noCache) Put(context.Context, market.Quote, uuid.UUID) (pricecache.Entry, error) {
	return pricecache.Entry{}, nil
}

// fakeStore has claims for one pass and keeps what is written. Every series is free.
type fakeStore struct {
	mu       sync.Mutex
	provider string // of the claims; empty: yfinance
	claims   []claim
	wrote    []outcome
	renewed  int
	busy     func(w *want) bool // nil: none is
}

func (f *fakeStore) due(context.Context, time.Duration) (time.Time, []dueProvider, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now(), []dueProvider{{Provider: cmp.Or(f.provider, "yfinance"), Now: true}}, nil
}

func (f *fakeStore) claim(context.Context, string, uuid.UUID, time.Time, int) ([]claim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	claims := f.claims
	f.claims = nil
	return claims, nil
}

func (f *fakeStore) acquire(_ context.Context, _ uuid.UUID, _ string, wants []*want) (a acquired, err error) {
	for _, w := range wants {
		if f.busy != nil && f.busy(w) {
			a.busy = append(a.busy, w)
		} else {
			a.owned = append(a.owned, w)
		}
	}
	return a, nil
}

func (f *fakeStore) renew(context.Context, uuid.UUID, []string, string, []market.Symbol) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
	return nil
}

func (f *fakeStore) write(_ context.Context, _ uuid.UUID, o outcome) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrote = append(f.wrote, o)
	return int64(len(o.jobs)), nil
}

func (f *fakeStore) forgetKeys(context.Context) error                            { return nil }
func (f *fakeStore) dropRuns(context.Context, time.Duration, int) (int64, error) { return 0, nil }

// codes gives what was written of each symbol: ok, or the code of the problem.
func (f *fakeStore) codes() map[market.Symbol]string {
	codes := map[market.Symbol]string{}
	for _, o := range f.wrote {
		for _, c := range o.jobs {
			for _, r := range c.results {
				if codes[r.Symbol] = "ok"; r.Code != nil {
					codes[r.Symbol] = *r.Code
				}
			}
		}
	}
	return codes
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

// auto is the provider's name for "whichever of the chain answers first".
const auto = "auto"

// together is how many symbols of one batch are looked up at a time.
const together = 8

type fetcher interface {
	Fetch(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error)
	Known(provider string) bool
}

// prices finds prices: in the cache, else at the provider, else in the cache once more, marked as stale.
type prices struct {
	cache   *pricecache.Cache
	flights *flight.Group
	chain   []string // of auto
	log     *slog.Logger
	lookups lookups
}

// found is a price and the way it was found.
type found struct {
	entry pricecache.Entry
	how   string // HIT, MISS or STALE
	// The provider that should have answered, and the code of what kept it from that; empty if it did.
	fallbackFrom, fallbackReason string
}

// fetchWith is what a flight does: fetch, store, publish. The flight then puts the quote into the cache.
func fetchWith(f fetcher) flight.Fetch {
	return func(ctx context.Context, provider string, symbol market.Symbol) (market.Quote, uuid.UUID, error) {
		r, err := f.Fetch(ctx, provider, symbol)
		return r.Quote, r.RawResponseID, err
	}
}

// providers are those that a request for provider asks, in their order.
func (p *prices) providers(provider string) []string {
	if provider == auto {
		return p.chain
	}
	return []string{provider}
}

// queue puts the reads that [prices.find] and [prices.findAll] begin with on a pipeline.
func (p *prices) queue(ctx context.Context, pipe redis.Pipeliner, provider string, symbols []market.Symbol) *pricecache.Lookup {
	if provider == auto {
		provider = p.chain[0]
	}
	return p.cache.Queue(ctx, pipe, provider, symbols...)
}

// find gives the latest price of a symbol, within [flight.Group.MaxWait] whatever happens; cached is what the cache has of the
// first provider. With provider auto it tries the chain in order, and its error is the most useful of theirs (see [usefulness]).
// While providers fail, a cached price that is not too old is answered as STALE. Errors are those of [ingest.Ingester.Fetch] and
// [flight.Group.Do].
func (p *prices) find(ctx context.Context, provider string, symbol market.Symbol, cached pricecache.Entry) (found, error) {
	f, err := found{entry: cached, how: "HIT"}, error(nil)
	if cached.Left <= 0 {
		f, err = p.refresh(ctx, p.providers(provider), symbol, cached)
	}
	p.count(f.how)
	return f, err
}

func (p *prices) count(how string) {
	switch how {
	case "HIT":
		p.lookups.hit.Inc()
	case "STALE":
		p.lookups.stale.Inc()
	default: // a miss, fetched or not
		p.lookups.miss.Inc()
	}
}

// cached gives an entry of a lookup, the zero Entry if there is none: a cache that is away is a miss.
func (p *prices) cached(ctx context.Context, l *pricecache.Lookup, i int) pricecache.Entry {
	entry, _, err := l.Entry(i)
	if err != nil {
		p.log.WarnContext(ctx, "cache not read", "err", err)
	}
	return entry
}

type failure struct {
	provider string
	err      error
}

// refresh asks the chain's providers; old is what the cache has of the first.
func (p *prices) refresh(ctx context.Context, chain []string, symbol market.Symbol, old pricecache.Entry) (found, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.flights.MaxWait())
	defer cancel()
	var failures []failure
	for i, provider := range chain {
		if i > 0 {
			entry, _, err := p.cache.Get(ctx, provider, symbol)
			if err != nil {
				p.log.WarnContext(ctx, "cache not read", "err", err)
			}
			if entry.Left > 0 {
				return fallback(found{entry: entry, how: "HIT"}, failures), nil
			}
			if old.Usable <= 0 {
				old = entry.Later(-time.Since(began)) // as if it had been read when old was
			}
		}
		entry, err := p.flights.Do(ctx, provider, symbol)
		if err == nil {
			return fallback(found{entry: entry, how: "MISS"}, failures), nil
		}
		failures = append(failures, failure{provider, err})
		if code := fault.CodeOf(err); code == "storage_unavailable" || code == "client_closed" {
			break // no other provider can help
		}
	}
	err := mostUseful(failures)
	old = old.Later(time.Since(began))
	if old.Usable > 0 && upstreamFailed(err) {
		p.log.WarnContext(ctx, "stale price answered", "err", err, "symbol", symbol, "provider", old.Quote.Provider)
		stale := found{entry: old, how: "STALE"}
		if old.Quote.Provider != chain[0] {
			stale = fallback(stale, failures)
		}
		return stale, nil
	}
	return found{}, err
}

func fallback(f found, failures []failure) found {
	if len(failures) > 0 {
		f.fallbackFrom, f.fallbackReason = failures[0].provider, fault.CodeOf(failures[0].err)
	}
	return f
}

// upstreamFailed reports an error that an older price may stand in for: not one of ours, and not a symbol that is gone.
func upstreamFailed(err error) bool {
	return fault.KindOf(err) == fault.Unavailable && fault.CodeOf(err) != "storage_unavailable"
}

// usefulness orders errors by what the client can do about them: try again, else correct the symbol, else tell us.
func usefulness(err error) int {
	switch fault.CodeOf(err) {
	case "storage_unavailable", "client_closed":
		return 4 // the last there is, and no provider's
	case "provider_rate_limited", "provider_unavailable", "provider_timeout":
		return 3 // so that "not found" of one provider does not speak for another that did not answer
	case "symbol_not_found":
		return 2
	case "provider_malformed":
		return 1
	}
	return 0
}

// mostUseful gives the first of the most useful errors; there must be one.
func mostUseful(failures []failure) error {
	best := failures[0].err
	for _, f := range failures[1:] {
		if usefulness(f.err) > usefulness(best) {
			best = f.err
		}
	}
	return best
}

// result is one symbol's part of a batch.
type result struct {
	found found
	err   error
}

// findAll finds several symbols at once, some at a time; each has a result of its own, in their order. cached is what the cache
// has of them.
func (p *prices) findAll(ctx context.Context, provider string, symbols []market.Symbol, cached *pricecache.Lookup) []result {
	ctx, cancel := context.WithTimeout(ctx, p.flights.MaxWait())
	defer cancel()
	results := make([]result, len(symbols))
	places := make(chan struct{}, together)
	var wg sync.WaitGroup
	for i, symbol := range symbols {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			results[i].found, results[i].err = p.find(ctx, provider, symbol, p.cached(ctx, cached, i))
		})
	}
	wg.Wait()
	return results
}

// lookups counts prices looked up by what the cache gave.
type lookups struct{ hit, miss, stale *metrics.Counter }

func newLookups(set *metrics.Set) lookups {
	result := func(name string) *metrics.Counter {
		return set.NewCounter(fmt.Sprintf("price_lookups_total{result=%q}", name))
	}
	return lookups{result("hit"), result("miss"), result("stale")}
}

package latest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/metric"
	"marketdata/shared/pricecache"
)

// prices finds prices: fresh ones in the cache, else at the provider, else stale ones in the cache.
type prices struct {
	cache   *pricecache.Cache
	flights *flight.Group
	chain   []string // of auto
	log     *slog.Logger
	lookups lookups
}

// found is a price and where it came from.
type found struct {
	entry                        pricecache.Entry
	xCache                       xCache
	fallbackFrom, fallbackReason string // the first provider of the chain and the code of its error, if another one answered
}

// xCache says where a price came from, in the words of the header X-Cache.
type xCache string

const (
	hit   xCache = "HIT"   // the cache
	miss  xCache = "MISS"  // the provider
	stale xCache = "STALE" // the cache, though the price is no longer fresh: the provider failed
)

// queue adds the cache reads that [prices.find] and [prices.findAll] start from to a pipeline.
func (p *prices) queue(ctx context.Context, pipe redis.Pipeliner, provider string, symbols []market.Symbol) *pricecache.Lookup {
	if provider == auto {
		provider = p.chain[0]
	}
	return p.cache.Queue(ctx, pipe, provider, symbols...)
}

// cached returns entry i of a lookup, or the zero Entry if there is none. A cache that cannot be read is a miss.
func (p *prices) cached(ctx context.Context, l *pricecache.Lookup, i int) pricecache.Entry {
	entry, _, err := l.Entry(i)
	if err != nil {
		p.log.WarnContext(ctx, "could not read the cache", "err", err)
	}
	return entry
}

// find returns the latest price of a symbol. It always ends within [flight.Group.MaxWait]. cached is the cache entry of the first
// provider. With provider auto, find tries the chain in order and returns the most useful of the errors (see [usefulness]). If
// providers fail, it returns a cached price that is not too old as STALE. Errors are those of [flight.Group.Do].
func (p *prices) find(ctx context.Context, provider string, symbol market.Symbol, cached pricecache.Entry) (found, error) {
	f, err := found{entry: cached, xCache: hit}, error(nil)
	if cached.Left <= 0 {
		f, err = p.refresh(ctx, p.providers(provider), symbol, cached)
	}
	p.count(f.xCache)
	return f, err
}

func (p *prices) count(x xCache) {
	switch x {
	case hit:
		p.lookups.hit.Inc()
	case stale:
		p.lookups.stale.Inc()
	default: // a miss, even if the fetch failed
		p.lookups.miss.Inc()
	}
}

// result is one symbol's part of a batch.
type result struct {
	found found
	err   error
}

// batchConcurrency is the number of symbols of a batch that are looked up at the same time.
const batchConcurrency = 8

// findAll finds the prices of several symbols concurrently, and returns their results in the order of symbols. cached holds their
// cache entries.
func (p *prices) findAll(ctx context.Context, provider string, symbols []market.Symbol, cached *pricecache.Lookup) []result {
	ctx, cancel := context.WithTimeout(ctx, p.flights.MaxWait())
	defer cancel()
	results := make([]result, len(symbols))
	slots := make(chan struct{}, batchConcurrency)
	var wg sync.WaitGroup
	for i, symbol := range symbols {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i].found, results[i].err = p.find(ctx, provider, symbol, p.cached(ctx, cached, i))
		})
	}
	wg.Wait()
	return results
}

// providers returns the providers that a request for provider asks, in order.
func (p *prices) providers(provider string) []string {
	if provider == auto {
		return p.chain
	}
	return []string{provider}
}

type failure struct {
	provider string
	err      error
}

// refresh asks the providers of the chain in order; old is the cache entry of the first.
func (p *prices) refresh(ctx context.Context, chain []string, symbol market.Symbol, old pricecache.Entry) (found, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.flights.MaxWait())
	defer cancel()
	var failures []failure
	for i, provider := range chain {
		if i > 0 {
			entry, _, err := p.cache.Get(ctx, provider, symbol)
			if err != nil {
				p.log.WarnContext(ctx, "could not read the cache", "err", err)
			}
			if entry.Left > 0 {
				return fallback(found{entry: entry, xCache: hit}, failures), nil
			}
			if old.Usable <= 0 {
				old = entry.Later(-time.Since(began)) // as of the time at which old was read
			}
		}
		entry, err := p.flights.Do(ctx, provider, symbol)
		if err == nil {
			return fallback(found{entry: entry, xCache: miss}, failures), nil
		}
		failures = append(failures, failure{provider, err})
		if code := fault.CodeOf(err); code == fault.CodeStorageUnavailable || code == fault.CodeClientClosed {
			break // no other provider can help
		}
	}
	err := mostUseful(failures)
	old = old.Later(time.Since(began))
	if old.Usable > 0 && upstreamFailed(err) {
		p.log.WarnContext(ctx, "answered with a stale price", "err", err, "symbol", symbol, "provider", old.Quote.Provider)
		f := found{entry: old, xCache: stale}
		if old.Quote.Provider != chain[0] {
			f = fallback(f, failures)
		}
		return f, nil
	}
	return found{}, err
}

func fallback(f found, failures []failure) found {
	if len(failures) > 0 {
		f.fallbackFrom, f.fallbackReason = failures[0].provider, fault.CodeOf(failures[0].err)
	}
	return f
}

// upstreamFailed reports an error for which an older price may be answered instead: one of the provider, not our own, and not an
// unknown symbol.
func upstreamFailed(err error) bool {
	return fault.KindOf(err) == fault.Unavailable && fault.CodeOf(err) != fault.CodeStorageUnavailable
}

// usefulness ranks errors by what the client can do about them: retry, else correct the symbol, else report it.
func usefulness(err error) int {
	switch fault.CodeOf(err) {
	case fault.CodeStorageUnavailable, fault.CodeClientClosed:
		return 4 // ends the chain; no other provider can help
	case fault.CodeProviderRateLimited, fault.CodeProviderUnavailable, fault.CodeProviderTimeout, fault.CodeOverloaded:
		return 3 // the provider that did not answer may have the symbol that another one does not know
	case fault.CodeSymbolNotFound:
		return 2
	case fault.CodeProviderMalformed:
		return 1
	}
	return 0
}

// mostUseful returns the most useful error, the first of equals. failures must not be empty.
func mostUseful(failures []failure) error {
	best := failures[0].err
	for _, f := range failures[1:] {
		if usefulness(f.err) > usefulness(best) {
			best = f.err
		}
	}
	return best
}

// lookups counts price lookups by result.
type lookups struct{ hit, miss, stale *metrics.Counter }

var help = []metric.Help{{Name: "marketdata_price_lookups_total", Text: "Prices looked up by result: hit, miss or stale."}}

func newLookups(set *metrics.Set) lookups {
	metric.Describe(help)
	result := func(name string) *metrics.Counter {
		return set.NewCounter(fmt.Sprintf("marketdata_price_lookups_total{result=%q}", name))
	}
	return lookups{result("hit"), result("miss"), result("stale")}
}

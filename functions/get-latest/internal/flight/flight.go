// Package flight makes one upstream call for all requests that miss the same price at the same time, over all replicas.
//
// Within a process these requests share one goroutine. Between processes, the one that takes a lock in Redis fetches. The others
// poll every 20 ms for the outcome: a fresh price in the cache, an error that the holder left, or a free lock, because the holder
// died and its lease expired. A poll is a few small commands in a round trip shared with other series. Publish and subscribe would
// save them, but needs a connection of its own, and polling all the same for messages that are missed.
//
// Redis errors never fail a request: each replica then fetches for itself.
package flight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"marketdata/shared/crowd"
	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/redisclient"
)

const (
	lookEvery   = 20 * time.Millisecond
	outcomeKept = 2 * time.Second // how long an error is shared
	margin      = time.Second     // by which the lease outlives the fetch, for scheduling delays and the last round trips
	together    = 128             // flights to one provider: if it is slow, others are not, and neither are prices in the cache
	patience    = time.Second     // for others to end
)

// Fetch gets a price from its provider and stores it. It must end when ctx does. [ingest.Ingester.Fetch] is one.
type Fetch func(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error)

// Group runs the flights of one process. Safe for concurrent use.
type Group struct {
	locks   locks
	fetch   Fetch
	timeout time.Duration
	log     *slog.Logger
	local   singleflight.Group
	turns   sync.Map // crowd.Crowd by provider
	running sync.WaitGroup
	closed  context.Context // ends with Close
	close   context.CancelFunc
}

// New returns a Group whose fetches end within timeout. Its keys in Redis begin with prefix.
func New(client *redis.Client, prefix string, cache *pricecache.Cache, fetch Fetch, timeout time.Duration, log *slog.Logger) *Group {
	batches := redisclient.NewBatcher(client, lockBudget)
	g := &Group{locks: locks{client, batches, prefix, cache, timeout + margin}, fetch: fetch, timeout: timeout, log: log}
	g.closed, g.close = context.WithCancel(context.Background())
	return g
}

// MaxWait is the longest time that a flight takes: the lease of a holder that dies at once, then the fetch of its successor.
func (g *Group) MaxWait() time.Duration { return g.locks.lease + g.timeout + margin }

// Close cancels all flights and releases their locks for other replicas.
func (g *Group) Close() {
	g.close()
	g.running.Wait()
	g.locks.batches.Close()
}

// Do returns a price that was fetched for this call, or for another one at the same time. Cancelling ctx ends the wait, not the
// fetch. Errors are those of Fetch, up to 2 s old; provider_timeout if ctx's deadline passes or no fetch ends within
// [Group.MaxWait]; client_closed if ctx is cancelled; overloaded if too many other prices of the provider are being fetched.
func (g *Group) Do(ctx context.Context, provider string, symbol market.Symbol) (pricecache.Entry, error) {
	done := g.local.DoChan(provider+":"+string(symbol), func() (any, error) {
		g.running.Add(1)
		defer g.running.Done()
		growStack()
		turns, _ := g.turns.LoadOrStore(provider, crowd.New(together, patience))
		mine := turns.(crowd.Crowd) //nolint:forcetypeassert // nothing else is stored
		if err := mine.Enter(g.closed); err != nil {
			return pricecache.Entry{}, err
		}
		defer mine.Leave()
		return g.lead(context.WithoutCancel(ctx), provider, symbol)
	})
	select {
	case r := <-done:
		entry, _ := r.Val.(pricecache.Entry)
		return entry, r.Err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return pricecache.Entry{}, tooLong(ctx.Err())
		}
		return pricecache.Entry{}, fault.Wrap(ctx.Err(), fault.Unavailable, fault.CodeClientClosed, "the request was cancelled")
	}
}

// growStack grows the stack to the size that a fetch needs (client, JSON) in one step, while it is almost empty. Otherwise the
// stack doubles several times deep inside the calls and is copied each time, which took a twentieth of a miss.
//
//go:noinline
func growStack() (n int) {
	var room [10 << 10]byte
	for i := 0; i < len(room); i += 4 << 10 {
		n += int(room[i])
	}
	return n
}

func tooLong(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, fault.CodeProviderTimeout, "no price arrived in time")
}

// lead runs the flight of this process: it fetches, or waits for another replica's fetch.
func (g *Group) lead(ctx context.Context, provider string, symbol market.Symbol) (pricecache.Entry, error) {
	s, token := series{provider, symbol}, uuid.NewString()
	entry, ended, err := g.try(ctx, s, token)
	if ended {
		return entry, err
	}
	waiting, cancel := context.WithTimeout(ctx, g.MaxWait())
	defer cancel()
	defer context.AfterFunc(g.closed, cancel)()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-waiting.Done():
			return pricecache.Entry{}, tooLong(waiting.Err())
		case <-look.C:
		}
		if entry, ended, err := g.try(ctx, s, token); ended {
			return entry, err
		}
	}
}

// try looks at the series, and fetches if it gets the lock. It returns ended == false while another replica holds the lock.
func (g *Group) try(ctx context.Context, s series, token string) (entry pricecache.Entry, ended bool, err error) {
	// look has a timeout of its own: the end of our wait must not look like a Redis error.
	seen, err := g.locks.look(ctx, s, token)
	switch {
	case err != nil:
		g.log.WarnContext(ctx, "fetching without a lock", "symbol", s.symbol, "provider", s.provider, "err", err)
		entry, err = g.refresh(ctx, s, "")
		return entry, true, err
	case seen.held && seen.fresh(): // it was stored after the caller's read of the cache
		g.free(ctx, s, token, nil)
		return seen.entry, true, nil
	case seen.held:
		entry, err = g.refresh(ctx, s, token)
		return entry, true, err
	case seen.fresh():
		return seen.entry, true, nil
	}
	return pricecache.Entry{}, seen.failure != nil, seen.failure
}

// refresh fetches, puts the price into the cache and releases the lock; an empty token means no lock. The fetch has a time limit of its
// own: waiting replicas get the price even if it took all of that time. If the cache cannot be written, the price is returned all the
// same, because it is stored.
func (g *Group) refresh(ctx context.Context, s series, token string) (pricecache.Entry, error) {
	fetched, err := g.run(ctx, s)
	if err != nil {
		if token != "" {
			g.free(ctx, s, token, err)
		}
		return pricecache.Entry{}, err
	}
	entry, err := g.locks.keep(ctx, s, token, fetched)
	if err != nil {
		g.log.WarnContext(ctx, "could not write the cache", "symbol", s.symbol, "provider", s.provider, "err", err)
		return pricecache.Entry{Quote: fetched.Quote, RawResponseID: fetched.RawResponseID}, nil
	}
	return entry, nil
}

// run calls fetch and turns a panic into an error: no HTTP server recovers from one in this goroutine.
func (g *Group) run(ctx context.Context, s series) (fetched ingest.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	defer context.AfterFunc(g.closed, cancel)()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in fetch: %v\n%s", v, debug.Stack())
		}
	}()
	return g.fetch(ctx, s.provider, s.symbol)
}

// free releases the lock and leaves the error for the replicas that wait. An error caused by our own shutdown is not shared.
func (g *Group) free(ctx context.Context, s series, token string, failure error) {
	if g.closed.Err() != nil {
		failure = nil
	}
	if err := g.locks.free(ctx, s, token, failure); err != nil {
		g.log.WarnContext(ctx, "could not release the lock", "symbol", s.symbol, "provider", s.provider, "err", err)
	}
}

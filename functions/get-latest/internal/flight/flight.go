// Package flight makes one upstream call of however many requests miss the same price at once, over all replicas.
//
// Within a process they share one goroutine. Over processes, the one that takes a lock in Redis fetches; the others look
// every 20 ms for what came of it: a fresh price in the cache, an error that the holder left, or a free lock, because its
// holder died and its lease ran out. Looking is a few small commands, in a round trip shared with other series; messages
// by publish and subscribe would save those, at the price of a connection, and of a second way for when one is missed.
//
// Trouble with Redis never fails a request: then each replica fetches for itself.
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

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/redisclient"
)

const (
	lookEvery   = 20 * time.Millisecond
	outcomeKept = 2 * time.Second // how long an error answers for the provider
	margin      = time.Second     // by which the lease outlives the fetch: for the scheduler and the last round trips
)

// Fetch gets a price from its provider and stores it. It must end when ctx does.
type Fetch func(ctx context.Context, provider string, symbol market.Symbol) (market.Quote, uuid.UUID, error)

// Group is the flights of one process. Safe for concurrent use.
type Group struct {
	locks   locks
	fetch   Fetch
	timeout time.Duration
	log     *slog.Logger
	local   singleflight.Group
	running sync.WaitGroup
	closed  context.Context // ends with Close
	close   context.CancelFunc
}

// New makes a group whose fetches end within timeout. Its keys in Redis begin with prefix.
func New(client *redis.Client, prefix string, cache *pricecache.Cache, fetch Fetch, timeout time.Duration, log *slog.Logger) *Group {
	batches := redisclient.NewBatcher(client, lockBudget)
	g := &Group{locks: locks{client, batches, prefix, cache, timeout + margin}, fetch: fetch, timeout: timeout, log: log}
	g.closed, g.close = context.WithCancel(context.Background())
	return g
}

// MaxWait bounds every flight: the lease of a holder that died at once, and the fetch of the one that takes over.
func (g *Group) MaxWait() time.Duration { return g.locks.lease + g.timeout + margin }

// Close ends the flights whose callers have gone, and frees their locks for other replicas.
func (g *Group) Close() {
	g.close()
	g.running.Wait()
	g.locks.batches.Close()
}

// Do returns a price that was fetched for this call or for another at the same time. A caller that goes away leaves, and
// the fetch goes on. Errors are those of Fetch, perhaps of up to 2 s ago; provider_timeout if ctx runs out or no fetch ends
// within [Group.MaxWait]; client_closed if ctx is cancelled.
func (g *Group) Do(ctx context.Context, provider string, symbol market.Symbol) (pricecache.Entry, error) {
	done := g.local.DoChan(provider+":"+string(symbol), func() (any, error) {
		g.running.Add(1)
		defer g.running.Done()
		growStack()
		return g.lead(context.WithoutCancel(ctx), provider, symbol)
	})
	select {
	case r := <-done:
		entry, _ := r.Val.(pricecache.Entry) // the zero Entry beside an error
		return entry, r.Err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return pricecache.Entry{}, tooLong(ctx.Err())
		}
		return pricecache.Entry{}, fault.Wrap(ctx.Err(), fault.Unavailable, "client_closed", "the request was cancelled")
	}
}

// growStack makes room for what a fetch needs (client, JSON) in one step, while there is next to nothing on the stack: grown by
// doubling, deep in the calls, each time everything is copied, which took a twentieth of a miss.
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
	return fault.Wrap(cause, fault.Unavailable, "provider_timeout", "no price could be had in time")
}

// lead is the flight of this process: it fetches, or waits for another replica that does.
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

// try looks at the series, and fetches if it takes the lock. Not ended: another replica has the lock.
func (g *Group) try(ctx context.Context, s series, token string) (entry pricecache.Entry, ended bool, err error) {
	seen, err := g.locks.look(ctx, s, token) // bounded by itself: the end of our wait must not look like trouble with the lock
	switch {
	case err != nil:
		g.log.WarnContext(ctx, "fetch without a lock", "symbol", s.symbol, "provider", s.provider, "err", err)
		entry, err = g.refresh(ctx, s, "")
		return entry, true, err
	case seen.held && seen.fresh(): // it came between the caller's look and ours
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

// refresh fetches, puts the price into the cache and gives the lock back; an empty token is no lock. A price that cannot be
// put into the cache is answered all the same: it is stored.
func (g *Group) refresh(ctx context.Context, s series, token string) (pricecache.Entry, error) {
	quote, id, err := g.run(ctx, s)
	if err != nil {
		if token != "" {
			g.free(ctx, s, token, err)
		}
		return pricecache.Entry{}, err
	}
	entry, err := g.locks.keep(ctx, s, token, quote, id)
	if err != nil {
		g.log.WarnContext(ctx, "cache not written", "symbol", s.symbol, "provider", s.provider, "err", err)
		return pricecache.Entry{Quote: quote, RawResponseID: id}, nil
	}
	return entry, nil
}

// run fetches. It runs outside of the server's goroutines, so a panic is caught here.
func (g *Group) run(ctx context.Context, s series) (quote market.Quote, id uuid.UUID, err error) {
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

// free gives the lock back, and leaves an error for those who wait. The error of a fetch that our own end cut short is
// nobody else's.
func (g *Group) free(ctx context.Context, s series, token string, failure error) {
	if g.closed.Err() != nil {
		failure = nil
	}
	if err := g.locks.free(ctx, s, token, failure); err != nil {
		g.log.WarnContext(ctx, "lock not given back", "symbol", s.symbol, "provider", s.provider, "err", err)
	}
}

// Package pricecache keeps the newest quote of each series in Redis. It may vanish at any time: trouble with it costs an
// upstream call, never a request.
//
// Start at [Cache.Get] and [Cache.Put]. [Cache.Prefetch] lets a read ride on somebody else's round trip.
package pricecache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"marketdata/shared/market"
)

// budget bounds one round trip: a cache that takes longer is no help.
const budget = 250 * time.Millisecond

// Cache is a cache of quotes. Safe for concurrent use.
type Cache struct {
	client redis.Cmdable
	prefix string
	fresh  time.Duration
	stale  time.Duration
}

// New keeps quotes under keys that begin with prefix: fresh ones for the time of fresh, and up to stale for answers
// while the provider is away; stale must not be shorter than fresh.
func New(client redis.Cmdable, prefix string, fresh, stale time.Duration) *Cache {
	return &Cache{client, prefix, fresh, max(fresh, stale)}
}

// Entry is a cached quote. The zero Entry is neither fresh nor usable.
type Entry struct {
	Quote         market.Quote
	RawResponseID uuid.UUID
	Age           time.Duration // since it was put or confirmed
	Left          time.Duration // until it is no longer fresh; 0 or less: only for answers marked stale
	Usable        time.Duration // until it is too old for those, too
}

// Later is the entry as it stands after d.
func (e Entry) Later(d time.Duration) Entry {
	e.Age, e.Left, e.Usable = e.Age+d, e.Left-d, e.Usable-d
	return e
}

// putScript stores a value unless a newer one is there; then the newer one's time starts anew, and it is the answer. A
// value that is not of the form of [encode] is overwritten whatever it says.
var putScript = redis.NewScript(`
local current = redis.call('GET', KEYS[1])
if current and string.find(current, '^' .. string.rep('%d', 20) .. string.rep('[%x-]', 36) .. '%d')
    and string.sub(current, 1, 56) > string.sub(ARGV[1], 1, 56) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return current
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
`)

// read is an entry that is asked for; its commands hold the answer once their pipeline has run.
type read struct {
	key   string
	value *redis.StringCmd
	ttl   *redis.DurationCmd
}

func (c *Cache) queue(ctx context.Context, p redis.Pipeliner, provider string, symbol market.Symbol) read {
	key := c.key(provider, symbol)
	return read{key, p.Get(ctx, key), p.PTTL(ctx, key)}
}

type prefetchKey struct{}

// Prefetch queues the reads of entries on p, which somebody else runs, and gives a context in which [Cache.Get] finds
// their answers. It is no promise: Get asks Redis itself for what was not queued or whose pipeline never ran.
func (c *Cache) Prefetch(ctx context.Context, p redis.Pipeliner, provider string, symbols ...market.Symbol) context.Context {
	reads := make([]read, len(symbols))
	for i, s := range symbols {
		reads[i] = c.queue(ctx, p, provider, s)
	}
	return context.WithValue(ctx, prefetchKey{}, reads)
}

// PrefetchNow is Prefetch in a round trip of its own, for several entries at once; it spares that if all of them have been
// fetched already. Errors show in Get.
func (c *Cache) PrefetchNow(ctx context.Context, provider string, symbols ...market.Symbol) context.Context {
	if !slices.ContainsFunc(symbols, func(s market.Symbol) bool { return c.prefetched(ctx, c.key(provider, s)) == nil }) {
		return ctx
	}
	bounded, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	p := c.client.Pipeline()
	ctx = c.Prefetch(ctx, p, provider, symbols...)
	_, _ = p.Exec(bounded) // each command keeps its own error
	return ctx
}

// prefetched gives a read of key that has an answer, nil if there is none.
func (c *Cache) prefetched(ctx context.Context, key string) *read {
	reads, _ := ctx.Value(prefetchKey{}).([]read)
	for i, r := range reads {
		// A read that never ran has no error and no value; values of ours are never empty.
		if r.key == key && (r.value.Err() != nil || r.value.Val() != "") {
			return &reads[i]
		}
	}
	return nil
}

// Get reads a series' entry; found is false if there is none. An error means that Redis did not answer, or with
// something that is not ours: to a caller both are a miss.
func (c *Cache) Get(ctx context.Context, provider string, symbol market.Symbol) (e Entry, found bool, err error) {
	if r := c.prefetched(ctx, c.key(provider, symbol)); r != nil {
		return c.answer(*r, provider, symbol)
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	p := c.client.Pipeline()
	r := c.queue(ctx, p, provider, symbol)
	_, _ = p.Exec(ctx) // each command keeps its own error
	return c.answer(r, provider, symbol)
}

func (c *Cache) answer(r read, provider string, symbol market.Symbol) (e Entry, found bool, err error) {
	value, err := r.value.Result()
	if errors.Is(err, redis.Nil) {
		return Entry{}, false, nil
	}
	ttl, err2 := r.ttl.Result()
	if err := errors.Join(err, err2); err != nil {
		return Entry{}, false, fmt.Errorf("read cache: %w", err)
	}
	q, id, err := decode(value)
	if err != nil {
		return Entry{}, false, err
	}
	q.Provider, q.Symbol = provider, symbol
	return c.entry(q, id, ttl), true, nil
}

// Put offers a quote and returns the entry that is then in the cache: the offered one or a newer one.
func (c *Cache) Put(ctx context.Context, q market.Quote, id uuid.UUID) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	got, err := putScript.Run(ctx, c.client, []string{c.key(q.Provider, q.Symbol)}, encode(q, id), c.stale.Milliseconds()).Text()
	if err != nil {
		return Entry{}, fmt.Errorf("write cache: %w", err)
	}
	kept, id, err := decode(got)
	if err != nil {
		return Entry{}, err
	}
	kept.Provider, kept.Symbol = q.Provider, q.Symbol
	return c.entry(kept, id, c.stale), nil
}

func (c *Cache) entry(q market.Quote, id uuid.UUID, ttl time.Duration) Entry {
	age := max(c.stale-ttl, 0)
	return Entry{Quote: q, RawResponseID: id, Age: age, Left: c.fresh - age, Usable: c.stale - age}
}

func (c *Cache) key(provider string, symbol market.Symbol) string {
	return c.prefix + provider + ":" + string(symbol)
}

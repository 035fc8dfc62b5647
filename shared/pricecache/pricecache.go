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
	now    func() time.Time
}

// New keeps quotes under keys that begin with prefix: fresh ones for the time of fresh, and up to stale for answers
// while the provider is away; stale must not be shorter than fresh.
func New(client redis.Cmdable, prefix string, fresh, stale time.Duration) *Cache {
	return &Cache{client, prefix, fresh, max(fresh, stale), time.Now}
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

// ahead is how far an observation may lie ahead of the clocks. What lies further ahead was written by a clock that was wrong,
// and would keep every true quote out.
const ahead = 5 * time.Minute

// putScript stores a value unless a newer one is there: then that one stays, its time starts anew, and it is the answer.
// Whatever else the key holds (another format, another type, a quote from the future) is overwritten. In the same step it gives
// a lock back.
//
// KEYS: the entry, and perhaps the lock. ARGV: rank, writer's time, rest, time to live (ms), furthest time ahead (µs), and what the
// lock holds if it is still the caller's. The answer is the value that is there now.
var putScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local head, rest = ARGV[1], ARGV[3]
local current = redis.pcall('GET', KEYS[1])
if type(current) == 'string'
    and string.find(current, '^q2:' .. string.rep('%d', 20) .. string.rep('[%x-]', 36) .. string.rep('%d', 61))
    and string.sub(current, 1, 59) > head
    and tonumber(string.sub(current, 4, 23)) <= math.max(now, tonumber(ARGV[2])) + tonumber(ARGV[5]) then
  head, rest = string.sub(current, 1, 59), string.sub(current, 100)
end
local value = head .. string.format('%020.0f', now) .. ARGV[2] .. rest
redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
if KEYS[2] and redis.call('GET', KEYS[2]) == ARGV[6] then redis.call('DEL', KEYS[2]) end
return value
`)

// read is an entry that is asked for; its commands hold the answer once their pipeline has run.
type read struct {
	key   string
	value *redis.StringCmd
	clock *redis.TimeCmd // one for all reads of the pipeline
}

func (c *Cache) queue(ctx context.Context, p redis.Pipeliner, provider string, symbols ...market.Symbol) []read {
	reads := make([]read, len(symbols))
	for i, s := range symbols {
		key := c.key(provider, s)
		reads[i] = read{key: key, value: p.Get(ctx, key)}
	}
	clock := p.Time(ctx)
	for i := range reads {
		reads[i].clock = clock
	}
	return reads
}

type prefetchKey struct{}

// Prefetch queues the reads of entries on p, which somebody else runs, and gives a context in which [Cache.Get] finds
// their answers. It is no promise: Get asks Redis itself for what was not queued or whose pipeline never ran.
func (c *Cache) Prefetch(ctx context.Context, p redis.Pipeliner, provider string, symbols ...market.Symbol) context.Context {
	return context.WithValue(ctx, prefetchKey{}, c.queue(ctx, p, provider, symbols...))
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
	reads := c.queue(ctx, p, provider, symbol)
	_, _ = p.Exec(ctx) // each command keeps its own error
	return c.answer(reads[0], provider, symbol)
}

func (c *Cache) answer(r read, provider string, symbol market.Symbol) (e Entry, found bool, err error) {
	text, err := r.value.Result()
	if errors.Is(err, redis.Nil) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("read cache: %w", err)
	}
	clock, err := r.clock.Result()
	if err != nil {
		return Entry{}, false, fmt.Errorf("read cache: %w", err)
	}
	v, err := decode(text)
	if err != nil {
		return Entry{}, false, err
	}
	v.quote.Provider, v.quote.Symbol = provider, symbol
	// Either clock may be set back, and an age must not run backwards: the greater age counts. Where both are behind, nobody
	// can tell how old the value is.
	age := max(clock.Sub(v.redis), c.now().Sub(v.writer))
	if age < -c.fresh || age >= c.stale {
		return Entry{}, false, nil
	}
	return c.entry(v, max(age, 0)), true, nil
}

// Lock is a key that is to be deleted if it still holds Token; the zero Lock is none.
type Lock struct{ Key, Token string }

// Put offers a quote and returns the entry that is then in the cache: the offered one or a newer one.
func (c *Cache) Put(ctx context.Context, q market.Quote, id uuid.UUID) (Entry, error) {
	return c.put(ctx, q, id, Lock{})
}

func (c *Cache) put(ctx context.Context, q market.Quote, id uuid.UUID, l Lock) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	keys, args := c.arguments(q, id, l)
	return c.kept(putScript.Run(ctx, c.client, keys, args...), q)
}

// Offer queues a Put on p, which somebody else runs; answer returns its result after that. l is given back in the same step as the
// quote is there, so that whoever takes it next sees the quote; after an error it may not be.
func (c *Cache) Offer(ctx context.Context, p redis.Pipeliner, q market.Quote, id uuid.UUID, l Lock) (answer func(ctx context.Context) (Entry, error)) {
	keys, args := c.arguments(q, id, l)
	put := putScript.EvalSha(ctx, p, keys, args...)
	return func(ctx context.Context) (Entry, error) {
		if redis.HasErrorPrefix(put.Err(), "NOSCRIPT") {
			return c.put(ctx, q, id, l) // loads it, too
		}
		return c.kept(put, q)
	}
}

func (c *Cache) arguments(q market.Quote, id uuid.UUID, l Lock) (keys []string, args []any) {
	keys, args = []string{c.key(q.Provider, q.Symbol)}, []any{rank(q, id), digits(c.now()), rest(q), c.stale.Milliseconds(), ahead.Microseconds()}
	if l.Key != "" {
		keys, args = append(keys, l.Key), append(args, l.Token)
	}
	return keys, args
}

func (c *Cache) kept(put *redis.Cmd, offered market.Quote) (Entry, error) {
	text, err := put.Text()
	if err != nil {
		return Entry{}, fmt.Errorf("write cache: %w", err)
	}
	v, err := decode(text)
	if err != nil {
		return Entry{}, err
	}
	v.quote.Provider, v.quote.Symbol = offered.Provider, offered.Symbol
	return c.entry(v, 0), nil
}

func (c *Cache) entry(v value, age time.Duration) Entry {
	return Entry{Quote: v.quote, RawResponseID: v.id, Age: age, Left: c.fresh - age, Usable: c.stale - age}
}

func (c *Cache) key(provider string, symbol market.Symbol) string {
	return c.prefix + provider + ":" + string(symbol)
}

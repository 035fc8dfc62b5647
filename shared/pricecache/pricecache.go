// Package pricecache keeps the newest quote of each series in Redis. An error of the cache costs a call to the provider, but
// never fails a request.
//
// Start at [Cache.Get] and [Cache.Put]. [Cache.Queue] and [Cache.Offer] do the same on a pipeline of the caller.
package pricecache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"marketdata/shared/market"
)

// budget bounds one round trip; a slower cache is of no use.
const budget = 250 * time.Millisecond

// Cache is a cache of quotes. Safe for concurrent use.
type Cache struct {
	client redis.Cmdable
	prefix string
	fresh  time.Duration
	stale  time.Duration
	now    func() time.Time
}

// New returns a cache with keys that begin with prefix. A quote is fresh for the time fresh, and may be used up to stale if the
// provider is unavailable. stale must not be shorter than fresh.
func New(client redis.Cmdable, prefix string, fresh, stale time.Duration) *Cache {
	return &Cache{client, prefix, fresh, max(fresh, stale), time.Now}
}

// Entry is a cached quote. The zero Entry is neither fresh nor usable.
type Entry struct {
	Quote         market.Quote
	RawResponseID uuid.UUID
	Age           time.Duration // since the last Put of this quote or an older one
	Left          time.Duration // until it is no longer fresh; 0 or less: only for responses that are marked stale
	Usable        time.Duration // until it is too old for these, too
}

// Later returns the entry as it will be after d.
func (e Entry) Later(d time.Duration) Entry {
	e.Age, e.Left, e.Usable = e.Age+d, e.Left-d, e.Usable-d
	return e
}

// ahead is how far an observation may be ahead of the clocks. One further ahead is due to a wrong clock, and would keep every
// correct quote out.
const ahead = 5 * time.Minute

// putScript stores a value, unless the key holds a newer one: that one stays, and its age starts again at 0. A value that is not
// ours (another format or type, a quote from the future) is overwritten. In the same step the script releases a lock.
//
// KEYS: the entry, and optionally the lock. ARGV: rank, writer's time, rest, time to live (ms), furthest time ahead (µs), and the
// caller's token of the lock. The reply is the value that the key now holds.
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

// Lookup is a read of entries on a pipeline. The caller must run the pipeline before it calls [Lookup.Entry].
type Lookup struct {
	cache    *Cache
	provider string
	symbols  []market.Symbol
	values   []*redis.StringCmd
	clock    *redis.TimeCmd // one for all symbols
}

// Queue queues the reads of entries on p.
func (c *Cache) Queue(ctx context.Context, p redis.Pipeliner, provider string, symbols ...market.Symbol) *Lookup {
	l := &Lookup{c, provider, symbols, make([]*redis.StringCmd, len(symbols)), nil}
	for i, s := range symbols {
		l.values[i] = p.Get(ctx, c.key(provider, s))
	}
	l.clock = p.Time(ctx)
	return l
}

// Get reads the entry of a series in a round trip of its own. Results are those of [Lookup.Entry].
func (c *Cache) Get(ctx context.Context, provider string, symbol market.Symbol) (e Entry, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	p := c.client.Pipeline()
	l := c.Queue(ctx, p, provider, symbol)
	_, _ = p.Exec(ctx) // each command keeps its own error
	return l.Entry(0)
}

// Entry returns the entry of the i-th symbol; found is false if there is none. An error means that Redis did not answer, or that
// the value is not ours; callers treat both as a miss.
func (l *Lookup) Entry(i int) (e Entry, found bool, err error) {
	text, err := l.values[i].Result()
	if errors.Is(err, redis.Nil) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, l.failed(i, err)
	}
	clock, err := l.clock.Result()
	if err != nil {
		return Entry{}, false, l.failed(i, err)
	}
	v, err := decode(text)
	if err != nil {
		return Entry{}, false, l.failed(i, err)
	}
	v.quote.Provider, v.quote.Symbol = l.provider, l.symbols[i]
	// Either clock may be set back, and an age must not decrease: the greater age counts. If both are behind, the age is unknown.
	c := l.cache
	age := max(clock.Sub(v.redis), c.now().Sub(v.writer))
	if age < -c.fresh || age >= c.stale {
		return Entry{}, false, nil
	}
	return c.entry(v, max(age, 0)), true, nil
}

// failed adds the series to err, because the code that logs it may not know it.
func (l *Lookup) failed(i int, err error) error {
	return fmt.Errorf("read cache of %s:%s: %w", l.provider, l.symbols[i], err)
}

// Lock is a key that is deleted if it still holds Token; the zero Lock means no lock.
type Lock struct{ Key, Token string }

// Put stores a quote, unless the cache has a newer one, and returns the entry that the cache then holds.
func (c *Cache) Put(ctx context.Context, q market.Quote, id uuid.UUID) (Entry, error) {
	return c.put(ctx, q, id, Lock{})
}

func (c *Cache) put(ctx context.Context, q market.Quote, id uuid.UUID, l Lock) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	keys, args := c.arguments(q, id, l)
	return c.kept(putScript.Run(ctx, c.client, keys, args...), q)
}

// Offer queues a Put on p. After the caller has run p, answer returns the result. l is released in the same step that stores the
// quote, so that its next holder sees the quote; after an error it may still be held.
func (c *Cache) Offer(ctx context.Context, p redis.Pipeliner, q market.Quote, id uuid.UUID, l Lock) (answer func(ctx context.Context) (Entry, error)) {
	keys, args := c.arguments(q, id, l)
	put := putScript.EvalSha(ctx, p, keys, args...)
	return func(ctx context.Context) (Entry, error) {
		if redis.HasErrorPrefix(put.Err(), "NOSCRIPT") {
			return c.put(ctx, q, id, l) // loads the script, too
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

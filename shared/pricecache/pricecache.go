// Package pricecache keeps the newest quote of each series in Redis. It may vanish at any time: trouble with it costs an
// upstream call, never a request.
package pricecache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"marketdata/shared/market"
)

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

// Entry is a cached quote.
type Entry struct {
	Quote         market.Quote
	RawResponseID uuid.UUID
	Age           time.Duration // since it was put or confirmed
	Left          time.Duration // until it is no longer fresh; 0 or less: only for answers marked stale
}

type wire struct {
	Symbol     string       `json:"symbol"`
	Provider   string       `json:"provider"`
	Price      market.Price `json:"price"`
	ObservedAt time.Time    `json:"observed_at"`
	Currency   string       `json:"currency,omitempty"`
	ID         uuid.UUID    `json:"raw_response_id"`
}

// rankLength is the length of the text that orders values: observed_at in microseconds, zero-padded, and the raw
// response's id, as text in the order of its bytes.
const rankLength = 20 + 36

// putScript stores a value unless a newer one is there; then the newer one's time starts anew, and it is the answer.
var putScript = redis.NewScript(`
local current = redis.call('GET', KEYS[1])
if current and string.sub(current, 1, 56) > string.sub(ARGV[1], 1, 56) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return current
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
`)

func (c *Cache) key(provider string, symbol market.Symbol) string {
	return c.prefix + provider + ":" + string(symbol)
}

// Get reads a series' entry; found is false if there is none. An error means that Redis did not answer, or with
// something that is not ours: to a caller both are a miss.
func (c *Cache) Get(ctx context.Context, provider string, symbol market.Symbol) (e Entry, found bool, err error) {
	key := c.key(provider, symbol)
	var value *redis.StringCmd
	var ttl *redis.DurationCmd
	_, err = c.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		value, ttl = p.Get(ctx, key), p.PTTL(ctx, key)
		return nil
	})
	if errors.Is(err, redis.Nil) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("read cache: %w", err)
	}
	e, err = c.decode(value.Val(), ttl.Val())
	return e, err == nil, err
}

// Put offers a quote and returns the entry that is then in the cache: the offered one or a newer one.
func (c *Cache) Put(ctx context.Context, q market.Quote, id uuid.UUID) (Entry, error) {
	body, err := json.Marshal(wire{string(q.Symbol), q.Provider, q.Price, q.ObservedAt.UTC(), q.Currency, id})
	if err != nil {
		return Entry{}, fmt.Errorf("encode cache entry: %w", err)
	}
	value := fmt.Sprintf("%020d%s%s", q.ObservedAt.UnixMicro(), id, body)
	got, err := putScript.Run(ctx, c.client, []string{c.key(q.Provider, q.Symbol)}, value, c.stale.Milliseconds()).Text()
	if err != nil {
		return Entry{}, fmt.Errorf("write cache: %w", err)
	}
	return c.decode(got, c.stale)
}

func (c *Cache) decode(value string, ttl time.Duration) (Entry, error) {
	if len(value) < rankLength {
		return Entry{}, errors.New("cache entry is not ours")
	}
	var w wire
	if err := json.Unmarshal([]byte(value[rankLength:]), &w); err != nil {
		return Entry{}, fmt.Errorf("decode cache entry: %w", err)
	}
	age := max(c.stale-ttl, 0)
	return Entry{
		Quote: market.Quote{
			Symbol: market.Symbol(w.Symbol), Provider: w.Provider, Price: w.Price, ObservedAt: w.ObservedAt.UTC(), Currency: w.Currency,
		},
		RawResponseID: w.ID, Age: age, Left: c.fresh - age,
	}, nil
}

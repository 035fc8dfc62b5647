package pricecache_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

const (
	fresh = time.Minute
	stale = 10 * time.Minute
)

// bundle is a cache and the Redis below it; the keys it writes begin with prefix.
type bundle struct {
	cache  *pricecache.Cache
	client *redis.Client
	prefix string
}

func setup(t *testing.T) (bundle, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return bundle{pricecache.New(client, "t:", fresh, stale), client, "t:"}, server
}

func quote(t *testing.T, price string, at int64) market.Quote {
	t.Helper()
	p, err := market.ParsePrice(price)
	require.NoError(t, err)
	return market.Quote{Symbol: "AAPL", Provider: "yfinance", Price: p, ObservedAt: time.UnixMicro(at).UTC(), Currency: "GBp"}
}

func (b bundle) put(t *testing.T, q market.Quote, id uuid.UUID) pricecache.Entry {
	t.Helper()
	e, err := b.cache.Put(t.Context(), q, id)
	require.NoError(t, err)
	return e
}

func (b bundle) get(t *testing.T) pricecache.Entry {
	t.Helper()
	e, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.True(t, found)
	return e
}

var (
	low  = uuid.MustParse("00000000-0000-7000-8000-000000000000")
	high = uuid.MustParse("ff000000-0000-7000-8000-000000000000")
)

// suite holds for every Redis.
func suite(t *testing.T, setup func(t *testing.T) bundle) {
	t.Helper()
	t.Run("what is put comes back exactly", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, price := range []string{"150.25", "0.000000000000000001", "12345678901234567890.123456789012345678", "1e3"} {
			q := quote(t, price, 1710930600123456)
			q.Currency = ""
			b.put(t, q, low)
			require.Equal(t, q, b.get(t).Quote)
		}
	})
	t.Run("never older over newer", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", 2000), low)
		require.Equal(t, quote(t, "2", 2000), b.put(t, quote(t, "1", 1999), high).Quote, "the newer stays and is the answer")
		require.Equal(t, quote(t, "3", 2000), b.put(t, quote(t, "3", 2000), high).Quote, "the id breaks the tie")
		require.Equal(t, quote(t, "3", 2000), b.get(t).Quote)
		require.Equal(t, high, b.get(t).RawResponseID)
	})
	t.Run("any order leaves the newest", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			newest, newestID := int64(0), uuid.UUID{}
			require.NoError(t, b.client.Del(t.Context(), b.prefix+"yfinance:AAPL").Err())
			for range 20 {
				at, id := 1+rng.Int64N(5)*999_999_999, uuid.UUID{byte(rng.IntN(256)), 15: byte(rng.IntN(256))}
				if at > newest || at == newest && strings.Compare(id.String(), newestID.String()) > 0 {
					newest, newestID = at, id
				}
				e := b.put(t, quote(t, "1", at), id)
				require.Equal(t, newest, e.Quote.ObservedAt.UnixMicro())
				require.Equal(t, newestID, e.RawResponseID)
			}
		}
	})
	t.Run("an older quote starts the newer one's time anew", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", 2000), low)
		require.NoError(t, b.client.PExpire(t.Context(), b.prefix+"yfinance:AAPL", time.Minute).Err())
		require.Negative(t, b.get(t).Left)
		b.put(t, quote(t, "1", 1999), low)
		require.InDelta(t, fresh, b.get(t).Left, float64(5*time.Second))
	})
	t.Run("what is not ours is an error, and overwritten", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, junk := range []string{"junk", strings.Repeat("z", 80), strings.Repeat("9", 20) + low.String() + "x GBp"} {
			require.NoError(t, b.client.Set(t.Context(), b.prefix+"yfinance:AAPL", junk, 0).Err())
			_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
			require.Error(t, err)
			require.False(t, found)
			b.put(t, quote(t, "2", 2000), low)
			require.Equal(t, quote(t, "2", 2000), b.get(t).Quote)
		}
	})
	t.Run("reads ride on another's pipeline", func(t *testing.T) { t.Parallel(); prefetches(t, setup(t)) })
}

func prefetches(t *testing.T, b bundle) {
	t.Helper()
	b.put(t, quote(t, "2", 2000), low)
	p := b.client.Pipeline()
	ctx := b.cache.Prefetch(t.Context(), p, "yfinance", "AAPL", "NONE")
	require.Equal(t, 4, p.Len())
	_, err := p.Exec(t.Context())
	require.ErrorIs(t, err, redis.Nil)
	require.NoError(t, b.client.Del(t.Context(), b.prefix+"yfinance:AAPL").Err())
	get := func(ctx context.Context, symbol market.Symbol) bool {
		_, found, err := b.cache.Get(ctx, "yfinance", symbol)
		require.NoError(t, err)
		return found
	}
	require.True(t, get(ctx, "AAPL"), "the answer of then, without a round trip")
	require.False(t, get(ctx, "NONE"))
	require.False(t, get(t.Context(), "AAPL"))

	b.put(t, quote(t, "2", 2000), low)
	require.True(t, get(b.cache.Prefetch(t.Context(), b.client.Pipeline(), "yfinance", "AAPL"), "AAPL"), "a pipeline that never ran")
	require.True(t, get(b.cache.Prefetch(t.Context(), b.client.Pipeline(), "finnhub", "AAPL"), "AAPL"), "another series was queued")
	require.True(t, get(b.cache.PrefetchNow(t.Context(), "yfinance", "NONE", "AAPL"), "AAPL"))
}

func TestCache(t *testing.T) {
	t.Parallel()
	suite(t, func(t *testing.T) bundle { t.Helper(); b, _ := setup(t); return b })
}

func TestFreshThenStaleThenGone(t *testing.T) {
	t.Parallel()
	b, server := setup(t)
	b.put(t, quote(t, "2", 2000), uuid.New())
	server.FastForward(59 * time.Second)
	e := b.get(t)
	require.Equal(t, time.Second, e.Left)
	require.Equal(t, 59*time.Second, e.Age)
	server.FastForward(time.Second)
	e = b.get(t)
	require.LessOrEqual(t, e.Left, time.Duration(0))
	require.Equal(t, 9*time.Minute, e.Usable)
	require.Equal(t, time.Minute, e.Later(8*time.Minute).Usable)
	server.FastForward(10 * time.Minute)
	_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.False(t, found)
}

func TestTroubleIsAnErrorNotAnEntry(t *testing.T) {
	t.Parallel()
	b, server := setup(t)
	server.Close()
	_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
	ctx := b.cache.PrefetchNow(t.Context(), "yfinance", "AAPL")
	_, found, err = b.cache.Get(ctx, "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
	_, err = b.cache.Put(t.Context(), quote(t, "2", 2000), low)
	require.Error(t, err)
}

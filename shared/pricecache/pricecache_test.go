package pricecache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
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

// bundle is a cache and its Redis; keys begin with prefix.
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

// backdate moves the times of the value back by d, on both clocks.
func (b bundle) backdate(t *testing.T, d time.Duration) {
	t.Helper()
	key := b.prefix + "yfinance:AAPL"
	text := []byte(b.client.Get(t.Context(), key).Val())
	for _, at := range []int{59, 79} {
		micros, err := strconv.ParseInt(string(text[at:at+20]), 10, 64)
		require.NoError(t, err)
		copy(text[at:], fmt.Sprintf("%020d", micros-d.Microseconds()))
	}
	require.NoError(t, b.client.Set(t.Context(), key, text, redis.KeepTTL).Err())
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

// suite tests the cache on any Redis.
func suite(t *testing.T, setup func(t *testing.T) bundle) {
	t.Helper()
	t.Run("a quote is read exactly as put", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, price := range []string{"150.25", "0.000000000000000001", "12345678901234567890.123456789012345678", "1e3"} {
			q := quote(t, price, 1710930600123456)
			q.Currency = ""
			b.put(t, q, low)
			require.Equal(t, q, b.get(t).Quote)
		}
	})
	t.Run("an older quote does not replace a newer one", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", 2000), low)
		require.Equal(t, quote(t, "2", 2000), b.put(t, quote(t, "1", 1999), high).Quote, "the newer one stays and is returned")
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
	t.Run("an older quote makes the newer one fresh again", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", 2000), low)
		b.backdate(t, 5*time.Minute)
		require.Negative(t, b.get(t).Left)
		b.put(t, quote(t, "1", 1999), low)
		require.InDelta(t, fresh, b.get(t).Left, float64(5*time.Second))
		require.InDelta(t, stale, b.client.PTTL(t.Context(), b.prefix+"yfinance:AAPL").Val(), float64(5*time.Second))
	})
	t.Run("of two undated quotes the later fetch wins", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		request := quote(t, "1", 1710930607_000000) // stamped at receipt
		request.Undated = true
		poll := quote(t, "2", 1710930605_000000) // fetched after it, and stamped with its period
		poll.Undated = true
		first, second := uuid.MustParse("018e5b9a-11d8-7000-8000-000000000000"), uuid.MustParse("018e5b9a-15c0-7000-8000-000000000000")
		b.put(t, request, first)
		require.Equal(t, "2", b.put(t, poll, second).Quote.Price.String())
		require.Equal(t, poll.ObservedAt, b.get(t).Quote.ObservedAt, "the entry has the time of its price point")
		require.Equal(t, "2", b.put(t, request, first).Quote.Price.String(), "in whatever order they arrive")
	})
	t.Run("an id without a time ranks by the observation", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		early, late := quote(t, "1", 1710930605_000000), quote(t, "2", 1710930607_000000)
		early.Undated, late.Undated = true, true
		b.put(t, late, uuid.MustParse("00000000-0000-4000-8000-000000000000"))
		require.Equal(t, "2", b.put(t, early, uuid.MustParse("ff000000-0000-4000-8000-000000000000")).Quote.Price.String())
	})
	t.Run("a quote from the future does not keep others out", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", time.Now().Add(time.Minute).UnixMicro()), low)
		require.Equal(t, "2", b.put(t, quote(t, "1", time.Now().UnixMicro()), high).Quote.Price.String(), "clocks differ a little")
		b.put(t, quote(t, "3", time.Now().Add(5*time.Hour).UnixMicro()), low)
		require.Equal(t, "1", b.put(t, quote(t, "1", time.Now().UnixMicro()), high).Quote.Price.String())
		require.Equal(t, "1", b.get(t).Quote.Price.String())
	})
	t.Run("the age does not depend on the key's time to live", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.put(t, quote(t, "2", 2000), low)
		b.backdate(t, 40*time.Second)
		for _, ttl := range []time.Duration{stale, time.Hour} {
			require.NoError(t, b.client.PExpire(t.Context(), b.prefix+"yfinance:AAPL", ttl).Err())
			require.InDelta(t, 40*time.Second, b.get(t).Age, float64(5*time.Second))
		}
		require.NoError(t, b.client.Persist(t.Context(), b.prefix+"yfinance:AAPL").Err())
		require.InDelta(t, 40*time.Second, b.get(t).Age, float64(5*time.Second))
		b.backdate(t, stale)
		_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
		require.NoError(t, err)
		require.False(t, found)
	})
	t.Run("a foreign value is an error and is overwritten", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		for _, junk := range []string{
			"junk", "", strings.Repeat("z", 200), strings.Repeat("9", 20) + low.String() + "1.5 GBp", // the last: the format before this one
			"q2:" + strings.Repeat("9", 20) + low.String() + strings.Repeat("9", 60) + "x GBp", "q3:" + strings.Repeat("9", 20) + low.String() + strings.Repeat("9", 60) + "1 GBp",
		} {
			require.NoError(t, b.client.Set(t.Context(), b.prefix+"yfinance:AAPL", junk, 0).Err())
			_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
			require.Error(t, err)
			require.False(t, found)
			b.put(t, quote(t, "2", 2000), low)
			require.Equal(t, quote(t, "2", 2000), b.get(t).Quote)
		}
	})
	t.Run("a key of another type is overwritten", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		require.NoError(t, b.client.RPush(t.Context(), b.prefix+"yfinance:AAPL", "1").Err())
		_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
		require.Error(t, err)
		require.False(t, found)
		b.put(t, quote(t, "2", 2000), low)
		require.Equal(t, quote(t, "2", 2000), b.get(t).Quote)
	})
	t.Run("an offer on the caller's pipeline", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		p := b.client.Pipeline()
		answer := b.cache.Offer(t.Context(), p, quote(t, "2", 2000), low, pricecache.Lock{})
		_, _ = p.Exec(t.Context()) // the script is not loaded yet: answer sends it
		e, err := answer(t.Context())
		require.NoError(t, err)
		require.Equal(t, quote(t, "2", 2000), e.Quote)
		require.Equal(t, fresh, e.Left)
		require.Equal(t, quote(t, "2", 2000), b.get(t).Quote)

		answer = b.cache.Offer(t.Context(), p, quote(t, "3", 3000), high, pricecache.Lock{})
		_, err = p.Exec(t.Context())
		require.NoError(t, err)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		e, err = answer(gone)
		require.NoError(t, err, "the answer is there without another round trip")
		require.Equal(t, quote(t, "3", 3000), e.Quote)
	})
	t.Run("an offer releases only the caller's lock", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		lock := b.prefix + "lock"
		for range 2 { // the first time the script is not loaded yet
			for token, left := range map[string]int64{"mine": 0, "another's": 1} {
				require.NoError(t, b.client.Set(t.Context(), lock, token, 0).Err())
				p := b.client.Pipeline()
				answer := b.cache.Offer(t.Context(), p, quote(t, "2", 2000), low, pricecache.Lock{Key: lock, Token: "mine"})
				_, _ = p.Exec(t.Context()) // answer returns the error
				e, err := answer(t.Context())
				require.NoError(t, err)
				require.Equal(t, quote(t, "2", 2000), e.Quote)
				require.Equal(t, left, b.client.Exists(t.Context(), lock).Val(), token)
			}
		}
	})
	t.Run("reads on the caller's pipeline", func(t *testing.T) { t.Parallel(); rides(t, setup(t)) })
}

func rides(t *testing.T, b bundle) {
	t.Helper()
	b.put(t, quote(t, "2", 2000), low)
	p := b.client.Pipeline()
	looked := b.cache.Queue(t.Context(), p, "yfinance", "AAPL", "NONE")
	require.Equal(t, 3, p.Len(), "the clock is read once")
	_, err := p.Exec(t.Context())
	require.ErrorIs(t, err, redis.Nil)
	require.NoError(t, b.client.Del(t.Context(), b.prefix+"yfinance:AAPL").Err())
	e, found, err := looked.Entry(0)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, quote(t, "2", 2000), e.Quote, "the reply of the pipeline, without another round trip")
	_, found, err = looked.Entry(1)
	require.NoError(t, err)
	require.False(t, found)
}

func TestCache(t *testing.T) {
	t.Parallel()
	suite(t, func(t *testing.T) bundle { t.Helper(); b, _ := setup(t); return b })
}

func TestUnavailableRedisIsAnError(t *testing.T) {
	t.Parallel()
	b, server := setup(t)
	server.Close()
	_, found, err := b.cache.Get(t.Context(), "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
	p := b.client.Pipeline()
	looked := b.cache.Queue(t.Context(), p, "yfinance", "AAPL")
	_, _ = p.Exec(t.Context()) // Entry returns the error
	_, found, err = looked.Entry(0)
	require.Error(t, err)
	require.False(t, found)
	_, err = b.cache.Put(t.Context(), quote(t, "2", 2000), low)
	require.Error(t, err)
}

package pricecache_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

func setup(t *testing.T) (*pricecache.Cache, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return pricecache.New(client, "t:", time.Minute, 10*time.Minute), server
}

func quote(t *testing.T, price string, at int64) market.Quote {
	t.Helper()
	p, err := market.ParsePrice(price)
	require.NoError(t, err)
	return market.Quote{Symbol: "AAPL", Provider: "yfinance", Price: p, ObservedAt: time.UnixMicro(at).UTC(), Currency: "GBp"}
}

func TestNeverOlderOverNewer(t *testing.T) {
	t.Parallel()
	cache, _ := setup(t)
	low, high := uuid.MustParse("00000000-0000-7000-8000-000000000000"), uuid.MustParse("ff000000-0000-7000-8000-000000000000")
	ctx := t.Context()
	_, err := cache.Put(ctx, quote(t, "2", 2000), low)
	require.NoError(t, err)
	e, err := cache.Put(ctx, quote(t, "1", 1999), high)
	require.NoError(t, err)
	require.Equal(t, quote(t, "2", 2000), e.Quote, "the newer stays and is the answer")
	e, err = cache.Put(ctx, quote(t, "3", 2000), high)
	require.NoError(t, err)
	require.Equal(t, quote(t, "3", 2000), e.Quote, "the id breaks the tie")
	e, found, err := cache.Get(ctx, "yfinance", "AAPL")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, quote(t, "3", 2000), e.Quote)
	require.Equal(t, high, e.RawResponseID)
}

func TestFreshThenStaleThenGone(t *testing.T) {
	t.Parallel()
	cache, server := setup(t)
	_, err := cache.Put(t.Context(), quote(t, "2", 2000), uuid.New())
	require.NoError(t, err)
	server.FastForward(59 * time.Second)
	e, _, err := cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.Equal(t, time.Second, e.Left)
	require.Equal(t, 59*time.Second, e.Age)
	server.FastForward(time.Second)
	e, _, err = cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.LessOrEqual(t, e.Left, time.Duration(0))
	server.FastForward(10 * time.Minute)
	_, found, err := cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.False(t, found)
}

func TestTroubleIsAnErrorNotAnEntry(t *testing.T) {
	t.Parallel()
	cache, server := setup(t)
	require.NoError(t, server.Set("t:yfinance:AAPL", "junk"))
	_, found, err := cache.Get(t.Context(), "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
	server.Close()
	_, found, err = cache.Get(t.Context(), "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
}

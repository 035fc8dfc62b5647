//go:build integration

package pricecache_test

import (
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/pricecache"
	"marketdata/shared/testenv"
)

func TestCacheOnRedis(t *testing.T) {
	t.Parallel()
	suite(t, func(t *testing.T) bundle {
		t.Helper()
		client, prefix := testenv.Redis(t)
		return bundle{pricecache.New(client, prefix, fresh, stale), client, prefix}
	})
}

// A server that accepts connections but never answers makes no call fail by itself.
func TestSilentRedisTimesOut(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	client := redis.NewClient(&redis.Options{Addr: l.Addr().String(), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	began := time.Now()
	_, found, err := pricecache.New(client, "t:", fresh, stale).Get(t.Context(), "yfinance", "AAPL")
	require.Error(t, err)
	require.False(t, found)
	require.Less(t, time.Since(began), 2*time.Second)
}

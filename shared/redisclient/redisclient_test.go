package redisclient_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/redisclient"
)

func TestOpenShowsNoPassword(t *testing.T) {
	t.Parallel()
	_, err := redisclient.Open("http://:hunter2@localhost:1")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestClientDoesNotRetry(t *testing.T) {
	t.Parallel()
	s := miniredis.RunT(t)
	client, err := redisclient.Open("redis://" + s.Addr() + "/0?max_retries=3")
	require.NoError(t, err)
	defer client.Close() //nolint:errcheck // nothing is buffered
	require.NoError(t, client.Ping(t.Context()).Err())
	before := s.TotalConnectionCount()
	pipe := client.Pipeline()
	pipe.Get(t.Context(), "k")
	_, err = pipe.Exec(t.Context())
	require.ErrorIs(t, err, redis.Nil)
	require.Equal(t, before, s.TotalConnectionCount(), "pipelines use open connections")
	calls := 0
	s.Server().SetPreHook(func(p *server.Peer, _ string, _ ...string) bool {
		calls++
		p.WriteError("LOADING Redis is loading the dataset in memory") // a reply after which the library would retry
		return true
	})
	require.ErrorContains(t, client.Incr(t.Context(), "n").Err(), "LOADING")
	require.Equal(t, 1, calls)
}

func TestWithoutURLEveryCommandFails(t *testing.T) {
	t.Parallel()
	client, err := redisclient.Open("")
	require.NoError(t, err)
	defer client.Close() //nolint:errcheck // nothing is open
	require.ErrorContains(t, client.Ping(t.Context()).Err(), "REDIS_URL is not set")
	pipe := client.Pipeline()
	value := pipe.Get(t.Context(), "k")
	_, _ = pipe.Exec(t.Context())
	require.ErrorContains(t, value.Err(), "REDIS_URL is not set")
}

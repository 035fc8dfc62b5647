package redisclient_test

import (
	"strings"
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

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{ // the address of the server, or the error
		"redis://h:1/3":                              "h:1",
		"rediss://alice:hunter2@h":                   "h:6379",
		"valkey://h:1":                               "h:1",
		"valkeys://alice:hunter2@h:1":                "h:1",
		"unix:///run/redis.sock":                     "/run/redis.sock",
		"redis+sentinel://:hunter2@h:26379/mymaster": "REDIS_URL: Redis Sentinel and Redis Cluster are not supported; give the address of one primary, or of a proxy",
		"rediss+cluster://:hunter2@h:1":              "REDIS_URL: Redis Sentinel and Redis Cluster are not supported; give the address of one primary, or of a proxy",
		"redis://:hunter2@a:1,b:2":                   "REDIS_URL has several servers: Redis Sentinel and Redis Cluster are not supported",
		"redis://:hunter2@a,b:2":                     "REDIS_URL has several servers: Redis Sentinel and Redis Cluster are not supported",
		"redis://:hunter2@a:1?addr=b:1":              "REDIS_URL has several servers: Redis Sentinel and Redis Cluster are not supported",
		"redis://:hunter2@a:1?master_name=m":         "REDIS_URL has several servers: Redis Sentinel and Redis Cluster are not supported",
		"http://:hunter2@h":                          "REDIS_URL is not a Redis URL: its scheme is not redis, rediss, valkey, valkeys or unix",
		"h:6379":                                     "REDIS_URL is not a Redis URL: its scheme is not redis, rediss, valkey, valkeys or unix",
		"redis://h/hunter2":                          "REDIS_URL is not a Redis URL",
		"redis://:hun#ter2@h":                        "REDIS_URL is not a Redis URL",
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			client, err := redisclient.Open(address)
			if err != nil {
				require.EqualError(t, err, want)
				return
			}
			defer client.Close() //nolint:errcheck // it did not connect
			require.Equal(t, want, client.Options().Addr)
			require.Equal(t, strings.HasPrefix(address, "rediss") || strings.HasPrefix(address, "valkeys"), client.Options().TLSConfig != nil)
		})
	}
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

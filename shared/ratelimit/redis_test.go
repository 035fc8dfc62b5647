package ratelimit

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestRedisDataLossAdmitsTheLimitOnceMore(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	s := subject{Store: NewRedis(clientOf(t, server.Addr()), "t:"), advance: clockOf(server)}
	limit := Limit{2, time.Minute}
	for range 2 {
		require.True(t, s.take(t, limit).Allowed)
		require.True(t, s.take(t, limit).Allowed)
		require.False(t, s.take(t, limit).Allowed)
		server.FlushAll()
	}
}

// A foreign value under a client's key is replaced.
func TestRedisKeyOfAnotherTypeIsReplaced(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*testing.T, *miniredis.Miniredis){
		"string": func(t *testing.T, m *miniredis.Miniredis) { t.Helper(); require.NoError(t, m.Set("t:client", "7")) },
		"hash":   func(_ *testing.T, m *miniredis.Miniredis) { m.HSet("t:client", "a", "b") },
		"set": func(t *testing.T, m *miniredis.Miniredis) {
			t.Helper()
			_, err := m.SAdd("t:client", "a")
			require.NoError(t, err)
		},
		"list of other text": func(t *testing.T, m *miniredis.Miniredis) {
			t.Helper()
			_, err := m.Push("t:client", "a", "b", "")
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			s := subject{Store: NewRedis(clientOf(t, server.Addr()), "t:"), advance: clockOf(server)}
			spoil(t, server)
			require.True(t, s.take(t, Limit{2, time.Minute}).Allowed)
			require.True(t, s.take(t, Limit{2, time.Minute}).Allowed)
			require.False(t, s.take(t, Limit{2, time.Minute}).Allowed)
		})
	}
}

func TestRedisKeysExpire(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	s := subject{Store: NewRedis(clientOf(t, server.Addr()), "t:"), advance: clockOf(server)}
	s.take(t, Limit{1, time.Second}, Limit{2, time.Minute})
	require.Equal(t, 61*time.Second, server.TTL("t:client"))
	s.advance(30 * time.Second)
	s.take(t, Limit{1, time.Second}, Limit{2, time.Minute})
	require.Equal(t, 61*time.Second, server.TTL("t:client"))
	list, err := server.List("t:client")
	require.NoError(t, err)
	require.Len(t, list, 2)
	s.advance(45 * time.Second)
	s.take(t, Limit{1, time.Second}, Limit{2, time.Minute})
	list, err = server.List("t:client")
	require.NoError(t, err)
	require.Len(t, list, 2, "admissions outside all windows are dropped")
	s.advance(-20 * time.Second)
	s.take(t, Limit{3, time.Minute})
	require.Equal(t, 81*time.Second, server.TTL("t:client"), "the newest admission is 20 s ahead of the clock")
	s.advance(102 * time.Second)
	require.False(t, server.Exists("t:client"))
}

// A server that was restarted or flushed does not know the script. The script is sent again, but the commands that rode with it
// are not.
func TestFlushedScriptIsSentAgainAlone(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := clientOf(t, server.Addr())
	store := NewRedis(client, "t:")
	require.NoError(t, store.Load(t.Context()))
	var counter *redis.IntCmd
	for i := range 3 {
		require.NoError(t, client.ScriptFlush(t.Context()).Err())
		d, err := store.TakeWith(t.Context(), func(p redis.Pipeliner) { counter = p.Incr(t.Context(), "rides") }, "client", Limit{2, time.Minute})
		require.NoError(t, err)
		require.Equal(t, i < 2, d.Allowed)
		require.EqualValues(t, i+1, counter.Val(), "the command ran once")
	}
	list, err := server.List("t:client")
	require.NoError(t, err)
	require.Len(t, list, 2)
}

func TestAReplyOfAnotherLengthIsAnError(t *testing.T) {
	t.Parallel()
	reply := []any{int64(1), int64(60_000_000), int64(4), int64(19), int64(7)}
	for n := range len(reply) + 1 {
		_, err := decision(redis.NewCmdResult(reply[:n], nil), 2)
		require.Equal(t, n == 4, err == nil, n)
	}
}

func TestRedisErrorsAreErrors(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	store := NewRedis(clientOf(t, server.Addr()), "t:")
	server.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	_, err := store.Take(t.Context(), "client", Limit{2, time.Minute})
	require.ErrorContains(t, err, "OOM")
	require.ErrorContains(t, store.Load(t.Context()), "OOM")
	server.SetError("")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var value *redis.StringCmd
	_, err = store.TakeWith(ctx, func(p redis.Pipeliner) { value = p.Get(ctx, "k") }, "client", Limit{2, time.Minute})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, value.Err(), context.Canceled)
	server.Close()
	_, err = store.TakeWith(t.Context(), func(p redis.Pipeliner) { value = p.Get(t.Context(), "k") }, "client", Limit{2, time.Minute})
	require.Error(t, err)
	require.Error(t, value.Err())
	require.NotErrorIs(t, value.Err(), redis.Nil, "an error is not a missing key")
}

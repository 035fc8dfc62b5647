package redisclient_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/redisclient"
)

// pipelines counts the pipelines that a client sends.
type pipelines struct{ n atomic.Int64 }

func (*pipelines) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*pipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmds)
	}
}

func newBatcher(t *testing.T, url string, hooks ...redis.Hook) *redisclient.Batcher {
	t.Helper()
	client, err := redisclient.Open(url)
	require.NoError(t, err)
	for _, h := range hooks {
		client.AddHook(h)
	}
	b := redisclient.NewBatcher(client, time.Second)
	t.Cleanup(func() {
		b.Close()
		require.NoError(t, client.Close())
	})
	return b
}

func TestBatchedCallersGetTheirOwnReplies(t *testing.T) {
	t.Parallel()
	s := miniredis.RunT(t)
	var sent pipelines
	b := newBatcher(t, "redis://"+s.Addr(), &sent)
	const callers = 500
	require.NoError(t, s.Set("text", "not a number"))
	var wg sync.WaitGroup
	replies := make([]*redis.StringCmd, callers)
	wrong := make([]*redis.IntCmd, callers)
	for i := range callers {
		wg.Go(func() {
			key := "k" + strconv.Itoa(i)
			b.Do(t.Context(), func(p redis.Pipeliner) {
				p.Set(t.Context(), key, i, 0)
				wrong[i] = p.Incr(t.Context(), "text")
				replies[i] = p.Get(t.Context(), key)
			})
		})
	}
	wg.Wait()
	for i := range callers {
		require.Equal(t, strconv.Itoa(i), replies[i].Val())
		require.ErrorContains(t, wrong[i].Err(), "not an integer", "an error of one command does not affect others")
	}
	require.Less(t, sent.n.Load(), int64(callers/2))
}

// held stops the server at the first PING until release is called.
func held(t *testing.T, s *miniredis.Miniredis, b *redisclient.Batcher) (release func()) {
	t.Helper()
	reached, free := make(chan struct{}), make(chan struct{})
	s.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if cmd == "PING" {
			close(reached)
			<-free
		}
		return false
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Do(context.Background(), func(p redis.Pipeliner) { p.Ping(context.Background()) })
	}()
	<-reached
	return func() { close(free); <-done }
}

func TestCancelledWaitingCallerSendsNothing(t *testing.T) {
	t.Parallel()
	s := miniredis.RunT(t)
	b := newBatcher(t, "redis://"+s.Addr())
	release := held(t, s, b)
	ctx, cancel := context.WithCancelCause(t.Context())
	var left, stayed *redis.StatusCmd
	var wg sync.WaitGroup
	wg.Go(func() { b.Do(ctx, func(p redis.Pipeliner) { left = p.Set(ctx, "left", 1, 0) }) })
	wg.Go(func() { b.Do(t.Context(), func(p redis.Pipeliner) { stayed = p.Set(ctx, "stayed", 1, 0) }) })
	gone := errors.New("gone")
	cancel(gone)
	release()
	wg.Wait()
	require.ErrorIs(t, left.Err(), gone)
	require.NoError(t, stayed.Err())
	require.Equal(t, []string{"stayed"}, s.Keys())
}

func TestEveryBatchedCommandHasAnError(t *testing.T) {
	t.Parallel()
	s := miniredis.RunT(t)
	closed := newBatcher(t, "redis://"+s.Addr())
	closed.Close()
	for name, b := range map[string]*redisclient.Batcher{"no Redis": newBatcher(t, ""), "closed": closed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second *redis.StringCmd
			b.Do(t.Context(), func(p redis.Pipeliner) {
				first = p.Get(t.Context(), "a")
				second = p.Get(t.Context(), "b")
			})
			require.Error(t, first.Err())
			require.Error(t, second.Err())
		})
	}
}

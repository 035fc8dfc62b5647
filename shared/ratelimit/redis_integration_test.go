//go:build integration

package ratelimit

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/redisclient"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

// shiftScript makes time pass for a log by moving its admissions back, because the clock of a real server cannot be set.
var shiftScript = redis.NewScript(`
local log = redis.call('LRANGE', KEYS[1], 0, -1)
for i, stamp in ipairs(log) do
  redis.call('LSET', KEYS[1], i - 1, string.format('%.0f', stamp - ARGV[1]))
end
return #log
`)

func TestRedisConforms(t *testing.T) {
	t.Parallel()
	conforms(t, func(t *testing.T) subject {
		t.Helper()
		client, prefix := testenv.Redis(t)
		return subject{Store: NewRedis(client, prefix), running: true, advance: func(d time.Duration) {
			keys := client.Scan(t.Context(), 0, prefix+"*", 1000).Iterator()
			for keys.Next(t.Context()) {
				require.NoError(t, shiftScript.Run(t.Context(), client, []string{keys.Val()}, d.Microseconds()).Err())
			}
			require.NoError(t, keys.Err())
		}}
	})
}

// BenchmarkTake measures a decision for a client with room and for one without, sequentially and in parallel.
func BenchmarkTake(b *testing.B) {
	client, prefix := testenv.Redis(b)
	for name, store := range map[string]Store{"memory": NewMemory(time.Now), "redis": NewRedis(client, prefix)} {
		for kind, limit := range map[string]Limit{"admitted": {maxN, time.Hour}, "refused": {5, 366 * day}, "default": {1200, 366 * day}} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := store.Take(context.Background(), kind, limit); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/"+kind+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						if _, err := store.Take(context.Background(), kind, limit); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkMiddleware measures a limited request whose handler reads Redis in the round trip of the limit check ("limited"), and
// the same pipeline without the limiter ("bare").
func BenchmarkMiddleware(b *testing.B) {
	opened, prefix := testenv.Redis(b)
	client, err := redisclient.Open("redis://" + opened.Options().Addr)
	require.NoError(b, err)
	defer client.Close() //nolint:errcheck // nothing is buffered
	require.NoError(b, client.Set(b.Context(), prefix+"cached", "value", time.Hour).Err())
	limit := Limit{maxN, time.Hour}

	limiter := New(client, Config{Timeout: time.Second, MaxCopies: 4}, slog.New(slog.DiscardHandler))
	defer limiter.Close() //nolint:errcheck // nothing is buffered
	srv := service.New("bench", "", service.Config{}, slog.New(slog.DiscardHandler))
	gate := limiter.Gate(Policy{Name: prefix, Limit: limit})
	srv.Mux.HandleFunc("GET /bench", func(w http.ResponseWriter, r *http.Request) {
		var got *redis.StringCmd
		if _, ok := gate.Admit(w, r, func(p redis.Pipeliner) { got = p.Get(r.Context(), prefix+"cached") }); ok && got.Val() != "value" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write([]byte("{}")) // a recorder never fails
	})
	require.NoError(b, limiter.Warm(b.Context()))

	store := NewRedis(client, prefix)
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got *redis.StringCmd
		d, err := store.TakeWith(r.Context(), func(p redis.Pipeliner) { got = p.Get(r.Context(), prefix+"cached") }, "bare", limit)
		if err != nil || !d.Allowed || got.Val() != "value" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write([]byte("{}")) // a recorder never fails
	})
	for name, h := range map[string]http.Handler{"limited": srv.Handler(), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/bench", nil))
					if w.Code != http.StatusOK {
						b.Error(w.Code, w.Body)
						return
					}
				}
			})
		})
	}
}

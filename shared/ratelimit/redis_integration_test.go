//go:build integration

package ratelimit

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// shiftScript makes time pass for a log: all that was admitted lies further back. The clock of a real server is nobody's
// to set.
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

// BenchmarkTake is one decision of a client with room and of one without, one by one and from many at once.
func BenchmarkTake(b *testing.B) {
	client, prefix := testenv.Redis(b)
	for name, store := range map[string]Store{"memory": NewMemory(time.Now), "redis": NewRedis(client, prefix)} {
		for kind, limit := range map[string]Limit{"admitted": {maxN, time.Second}, "refused": {5, 366 * day}, "default": {1200, 366 * day}} {
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

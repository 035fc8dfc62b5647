package ratelimit

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// takeScript is [admit] on a Redis list of admission times in microseconds, on Redis' clock: one step for all copies.
// Numbers up to 2^53 are exact in Lua, which the clock in microseconds stays below until the year 2255.
var takeScript = redis.NewScript(`
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local newest = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
if newest > now then now = newest end
local oldest = tonumber(redis.call('LINDEX', KEYS[1], 0) or -1)
while oldest >= 0 and now - oldest >= window do
  redis.call('LPOP', KEYS[1])
  oldest = tonumber(redis.call('LINDEX', KEYS[1], 0) or -1)
end
local used, allowed = redis.call('LLEN', KEYS[1]), 0
if used < limit then
  allowed, used = 1, used + 1
  redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000) + 1000)
  if oldest < 0 then oldest = now end
end
local reset = 0
if oldest >= 0 then reset = oldest + window - now end
return {allowed, limit - used, reset}
`)

// Redis is a Store shared by all copies. The client must not retry by itself (MaxRetries -1): a script that ran but whose
// answer was lost would count twice.
type Redis struct {
	client redis.Scripter
	prefix string
}

// NewRedis keeps the logs under keys that begin with prefix.
func NewRedis(client redis.Scripter, prefix string) *Redis { return &Redis{client, prefix} }

// Take implements Store. Errors mean that Redis did not answer: the admission may or may not have been recorded.
func (s *Redis) Take(ctx context.Context, key string, limit Limit) (Decision, error) {
	v, err := takeScript.Run(ctx, s.client, []string{s.prefix + key}, limit.N, limit.Window.Microseconds()).Int64Slice()
	if err != nil {
		return Decision{}, fmt.Errorf("take: %w", err)
	}
	if len(v) != 3 {
		return Decision{}, fmt.Errorf("take: %d values in the answer", len(v))
	}
	return Decision{Allowed: v[0] == 1, Remaining: max(int(v[1]), 0), Reset: time.Duration(v[2]) * time.Microsecond}, nil
}

// Load sends the script to Redis, so that no request pays for it.
func (s *Redis) Load(ctx context.Context) error {
	if err := takeScript.Load(ctx, s.client).Err(); err != nil {
		return fmt.Errorf("load limiter script: %w", err)
	}
	return nil
}

var _ Store = (*Redis)(nil)

package ratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/shared/fault"
	"marketdata/shared/redisclient"
)

// takeSource is [admit] on a Redis list of admission times in microseconds, on the clock of Redis: one atomic step for all
// replicas.
//
// KEYS[1] is the log; ARGV holds N and window (microseconds) of each limit. The reply is allowed (0 or 1), reset (microseconds),
// and the requests left under each limit. Numbers up to 2^53 are exact in Lua; the clock in microseconds stays below that until
// the year 2255. A key that is not a list of numbers is not ours and is replaced: every later script would fail on it. The key
// expires one second after it can no longer refuse a request.
const takeSource = `
local key, longest = KEYS[1], 0
for i = 2, #ARGV, 2 do longest = math.max(longest, tonumber(ARGV[i])) end
local t = redis.call('TIME')
local clock = t[1] * 1000000 + t[2]

-- LINDEX returns false if there is no key, and an error for a key of another type.
local last = redis.pcall('LINDEX', key, -1)
local newest = type(last) == 'string' and tonumber(last)
if last and not newest then redis.call('DEL', key) end
local length = newest and redis.call('LLEN', key) or 0
local seen = {}
local function at(i)
  seen[i] = seen[i] or tonumber(redis.call('LINDEX', key, i))
  return seen[i]
end

-- The time is that of the newest admission until the clock has caught up, unless the clock was wrong before.
local now = math.max(clock, newest or 0)
if now - clock > longest then
  now = clock
  for i = length - 1, 0, -1 do
    if at(i) <= clock then break end
    redis.call('LSET', key, i, string.format('%.0f', clock))
    seen[i] = clock
  end
end

-- The number of admissions that are a window or more ago. The log is sorted.
local function older(window)
  if length == 0 or now - at(0) < window then return 0 end
  local low, high = 0, length
  while low < high do
    local mid = math.floor((low + high) / 2)
    if now - at(mid) < window then high = mid else low = mid + 1 end
  end
  return low
end

local allowed, reset, first, left = 1, 0, 0, {}
for i = 1, #ARGV, 2 do
  local limit, window = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local used = length - older(window)
  left[#left + 1] = math.max(limit - used, 0)
  if used >= limit then
    allowed, reset = 0, math.max(reset, at(length - limit) + window - clock)
  elseif i == 1 then
    first = (used > 0 and at(length - used) or now) + window - clock
  end
end
if allowed == 1 then
  reset = first
  local gone = older(longest)
  if gone > 0 then redis.call('LTRIM', key, gone, -1) end
  redis.call('RPUSH', key, string.format('%.0f', now))
  redis.call('PEXPIRE', key, string.format('%.0f', (now - clock + longest) / 1000 + 1000))
end
local answer = {allowed, reset}
for i, n in ipairs(left) do answer[i + 2] = n - allowed end
return answer
`

var takeScript = redis.NewScript(takeSource)

// Redis is a Store shared by all replicas. The client must not retry by itself (MaxRetries -1): a request whose reply was lost
// would count twice.
type Redis struct {
	client  *redis.Client
	batches *redisclient.Batcher
	prefix  string
}

// batchTimeout bounds one round trip. The connections of a limiter time out long before, see [pulse].
const batchTimeout = 5 * time.Second

// NewRedis returns a store that keeps the logs under keys that begin with prefix. Close it after use.
func NewRedis(client *redis.Client, prefix string) *Redis {
	return &Redis{client, redisclient.NewBatcher(client, batchTimeout), prefix}
}

// Close ends the batching; client stays open.
func (s *Redis) Close() { s.batches.Close() }

// Take implements Store. Errors mean that Redis did not answer: the admission may or may not have been recorded.
func (s *Redis) Take(ctx context.Context, key string, limits ...Limit) (Decision, error) {
	return s.TakeWith(ctx, nil, key, limits...)
}

// TakeWith is Take in one round trip with the commands that ride queues on the same pipeline; ride may be nil. Afterwards each of
// them has its reply or an error, and none was sent twice.
func (s *Redis) TakeWith(ctx context.Context, ride func(redis.Pipeliner), key string, limits ...Limit) (Decision, error) {
	keys, args := []string{s.prefix + key}, make([]any, 0, 2*len(limits))
	for _, l := range limits {
		l = l.kept()
		args = append(args, l.N, l.Window.Microseconds())
	}
	var taken *redis.Cmd
	s.batches.Do(ctx, func(p redis.Pipeliner) {
		taken = takeScript.EvalSha(ctx, p, keys, args...)
		if ride != nil {
			ride(p)
		}
	})
	if redis.HasErrorPrefix(taken.Err(), "NOSCRIPT") {
		taken = takeScript.Eval(ctx, s.client, keys, args...) // loads it, too
	}
	return decision(taken, len(limits))
}

func decision(taken *redis.Cmd, limits int) (Decision, error) {
	v, err := taken.Int64Slice()
	if err != nil {
		return Decision{}, fmt.Errorf("take: %w", err)
	}
	if len(v) != 2+limits {
		return Decision{}, fmt.Errorf("take: %d values in the reply", len(v))
	}
	d := Decision{Allowed: v[0] == 1, Reset: time.Duration(v[1]) * time.Microsecond, Left: make([]int, limits)}
	for i := range d.Left {
		d.Left[i] = int(v[2+i])
	}
	return d, nil
}

// Load opens a connection and loads the script into Redis, so that no request has to wait for either. It also checks that Redis can be
// used: the error has the code read_only for a replica, and names a node of a cluster, which would refuse most keys.
func (s *Redis) Load(ctx context.Context) error {
	pipe := s.client.Pipeline()
	loaded := pipe.ScriptLoad(ctx, takeSource)
	written := pipe.Set(ctx, s.prefix+"ready", "", time.Second)
	hello := pipe.Do(ctx, "hello", 2)
	_, _ = pipe.Exec(ctx) // each command has its error
	switch err := cmp.Or(loaded.Err(), written.Err()); {
	case isCluster(hello):
		return errCluster
	case redis.HasErrorPrefix(err, "READONLY"):
		return fault.Wrap(err, fault.Unavailable, fault.CodeReadOnly, "redis is read-only")
	case err != nil:
		return fmt.Errorf("load limiter script: %w", err)
	}
	return nil
}

var errCluster = errors.New("REDIS_URL is a node of a Redis Cluster, which is not supported")

// isCluster reads the reply to HELLO, a list of names and values. A server that does not answer it, or not to this user, is no cluster.
func isCluster(hello *redis.Cmd) bool {
	reply, _ := hello.Slice() // nil after an error
	for i := 0; i+1 < len(reply); i += 2 {
		if reply[i] == "mode" {
			return reply[i+1] == "cluster"
		}
	}
	return false
}

var _ Store = (*Redis)(nil)

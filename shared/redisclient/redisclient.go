// Package redisclient opens the Redis client with the settings that the limiter and the cache rely on.
package redisclient

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Open returns a client; it does not connect. The client never retries by itself (a limiter script whose reply was lost would count
// twice), respects the context's deadline, and fails at once if the connection is refused. For an empty address, every command of the
// client fails: functions can run without Redis. Redis Sentinel and Redis Cluster are refused: our scripts and batches need all keys
// in one place, and the address of the primary to stay. The error never contains the URL, which may hold a password.
func Open(address string) (*redis.Client, error) {
	silence()
	options := &redis.Options{}
	if address != "" {
		var err error
		if options, err = parse(address); err != nil {
			return nil, err
		}
	} else {
		options.Dialer = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("REDIS_URL is not set")
		}
	}
	options.MaxRetries = -1
	options.DialerRetries = 1 // the waits between more of them exceed the timeout of any request
	options.ContextTimeoutEnabled = true
	options.DialTimeout = time.Second
	options.ReadTimeout = time.Second
	options.WriteTimeout = time.Second
	options.Protocol = 2                                           // RESP3 is not needed, and its push messages cost a check before each command
	options.DisableIdentity = true                                 // saves a round trip per connection
	options.ReadBufferSize, options.WriteBufferSize = 4<<10, 4<<10 // a batch of 50 prices; longer ones take more system calls, but not more time
	options.PipelinePoolSize = -1                                  // one pool: the first request's pipeline uses the connection that /readyz opened
	return redis.NewClient(options), nil
}

// parse reads a URL of one server. The scheme of Valkey, which speaks the same protocol, is taken for that of Redis.
func parse(text string) (*redis.Options, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "redis", "rediss", "unix":
	case "valkey", "valkeys":
		scheme = "redis" + strings.TrimPrefix(scheme, "valkey")
	default:
		if strings.Contains(scheme, "sentinel") || strings.Contains(scheme, "cluster") {
			return nil, errors.New("REDIS_URL: Redis Sentinel and Redis Cluster are not supported; give the address of one primary, or of a proxy")
		}
		return nil, errors.New("REDIS_URL is not a Redis URL: its scheme is not redis, rediss, valkey, valkeys or unix")
	}
	options, err := redis.ParseURL(scheme + "://" + rest)
	if u, invalid := url.Parse(text); invalid == nil && (strings.Contains(u.Host, ",") || u.Query().Has("addr") || u.Query().Has("master_name")) {
		return nil, errors.New("REDIS_URL has several servers: Redis Sentinel and Redis Cluster are not supported")
	}
	if err != nil {
		return nil, errors.New("REDIS_URL is not a Redis URL") // without err, which may contain the password
	}
	return options, nil
}

// silence turns off the library's own logging, which is not JSON. Callers get its errors and log them.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf drops the line.
func (silent) Printf(context.Context, string, ...any) {}

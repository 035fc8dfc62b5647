// Package redisclient opens the Redis client with the settings that the limiter and the cache rely on.
package redisclient

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Open returns a client; it does not connect. The client never retries by itself (a limiter script whose reply was lost would count
// twice), respects the context's deadline, and fails at once if the connection is refused. For an empty URL, every command of the
// client fails: functions can run without Redis. The error never contains the URL, which may hold a password.
func Open(url string) (*redis.Client, error) {
	silence()
	options := &redis.Options{}
	if url != "" {
		var err error
		if options, err = redis.ParseURL(url); err != nil {
			return nil, errors.New("REDIS_URL is not a Redis URL")
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

// silence turns off the library's own logging, which is not JSON. Callers get its errors and log them.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf drops the line.
func (silent) Printf(context.Context, string, ...any) {}

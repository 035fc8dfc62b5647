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

// Open makes a client; it does not connect. It never retries by itself (a limiter script whose answer was lost would
// count twice), keeps to the context's deadline, and fails at once where nobody listens. An empty URL gives a client
// whose every command fails, for functions that can do without Redis. The error never contains the URL, which may hold a
// password.
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
	options.DialerRetries = 1 // more would wait in between, for longer than any request may
	options.ContextTimeoutEnabled = true
	options.DialTimeout = time.Second
	options.ReadTimeout = time.Second
	options.WriteTimeout = time.Second
	options.Protocol = 2                                           // nothing of RESP3 is used, and its push messages cost a look before each command
	options.DisableIdentity = true                                 // one round trip less on connecting
	options.ReadBufferSize, options.WriteBufferSize = 4<<10, 4<<10 // a batch of 50 prices; more is more calls, not more time
	options.PipelinePoolSize = -1                                  // one pool: the connection that /readyz opened serves the first request's pipeline
	return redis.NewClient(options), nil
}

// silence ends the library's own logging, which is no JSON: its errors reach the callers, and they log them.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf drops the line.
func (silent) Printf(context.Context, string, ...any) {}

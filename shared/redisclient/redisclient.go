// Package redisclient opens the Redis client with the settings that the limiter and the cache rely on.
package redisclient

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Open makes a client; it does not connect. It never retries by itself (a limiter script whose answer was lost would
// count twice) and keeps to the context's deadline. The error never contains the URL.
func Open(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("REDIS_URL is not a Redis URL")
	}
	options.MaxRetries = -1
	options.ContextTimeoutEnabled = true
	options.DialTimeout = time.Second
	options.ReadTimeout = time.Second
	options.WriteTimeout = time.Second
	return redis.NewClient(options), nil
}

// Package backing opens what every function stands on: Postgres, Redis with the limiter, and the Kafka producer. It is a package
// apart from service, which links none of them.
package backing

import (
	"github.com/redis/go-redis/v9"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/service"
)

// Clients are a function's clients of its services.
type Clients struct {
	Postgres *postgres.Lazy
	Redis    *redis.Client
	Producer *kafkaclient.Producer
	Limiter  *ratelimit.Limiter

	srv *service.Service
}

// Open returns the clients of srv, and adds Postgres and Redis to its readiness and the metrics of pool and limiter to its own. Nothing
// connects yet. Kafka's check is up to the function, which knows the topic that it needs. Close the clients after use.
func Open(srv *service.Service, config Config) (*Clients, error) {
	pool, err := postgres.OpenLater(string(config.DatabaseURL))
	if err != nil {
		return nil, err
	}
	client, err := redisclient.Open(string(config.RedisURL))
	if err != nil {
		return nil, err
	}
	limiter := ratelimit.New(client, config.Limits, srv.Log)
	limiter.Observe(srv.Metrics)
	pool.Observe(srv.Metrics, "main")
	srv.Needs(service.Check{Name: "postgres", Ping: pool.Ping, Required: !config.ServesWithoutPostgres},
		service.Check{Name: "redis", Ping: limiter.Warm}) // without it each replica limits alone, and serves
	return &Clients{Postgres: pool, Redis: client, Producer: kafkaclient.NewProducer(config.Kafka, srv.Log), Limiter: limiter, srv: srv}, nil
}

// Close closes all clients within [service.Service.Left]. Defer it before what uses them: that is closed first.
func (c *Clients) Close() {
	_ = c.Limiter.Close() // nothing is buffered
	c.srv.Close(func() { c.Producer.Close(c.srv.Left()) })
	_ = c.Redis.Close() // as above
	c.srv.Close(c.Postgres.Close)
}

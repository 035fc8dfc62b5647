package main

import (
	"errors"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/providers"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Providers       providers.Config
	Limits          ratelimit.Config
	Budgets         budget.Config
	LatestLimit     ratelimit.Limit `envconfig:"RATE_LIMIT_LATEST" default:"5/1m"`
	DatabaseURL     service.Secret  `envconfig:"DATABASE_URL"`
	RedisURL        service.Secret  `envconfig:"REDIS_URL"`
	KafkaServers    string          `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	DefaultProvider string          `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	ProviderChain   []string        `envconfig:"PROVIDER_CHAIN"`          // what provider=auto tries, in order; empty: all
	CacheTTL        time.Duration   `envconfig:"CACHE_TTL" default:"60s"` // how long a quote is fresh
	StaleTTL        time.Duration   `envconfig:"STALE_TTL" default:"10m"` // how long a quote may be answered while the provider fails
}

func loadConfig() (config, error) {
	var c config
	c.Providers.Load()
	c.Budgets.Load()
	err := service.LoadConfig(&c)
	return c, err
}

// Validate reports all invalid settings at once.
func (c config) Validate() error {
	return errors.Join(
		c.Config.Validate(), c.Providers.Validate(), c.Limits.Validate(), c.Budgets.Validate(), c.LatestLimit.Check("RATE_LIMIT_LATEST"),
		service.Required("DATABASE_URL", c.DatabaseURL), service.Required("REDIS_URL", c.RedisURL), service.Required("KAFKA_BOOTSTRAP_SERVERS", c.KafkaServers),
		service.OneOf("DEFAULT_PROVIDER", "provider", c.DefaultProvider, market.Providers()),
		service.EachOf("PROVIDER_CHAIN", "provider", c.ProviderChain, market.Providers()),
		service.Within("CACHE_TTL", c.CacheTTL, time.Second, maxTTL), service.Within("STALE_TTL", c.StaleTTL, c.CacheTTL, maxTTL),
	)
}

// maxTTL is the longest time that a quote may be kept in the cache.
const maxTTL = 366 * 24 * time.Hour

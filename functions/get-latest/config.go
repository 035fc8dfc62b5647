package main

import (
	"errors"
	"time"

	"marketdata/shared/backing"
	"marketdata/shared/market"
	"marketdata/shared/market/providers"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Backing         backing.Config
	Providers       providers.Config
	Budgets         budget.Config
	LatestLimit     ratelimit.Limit `envconfig:"RATE_LIMIT_LATEST" default:"5/1m"`
	DefaultProvider string          `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	ProviderChain   []string        `envconfig:"PROVIDER_CHAIN"`          // what provider=auto tries, in order; empty: all
	CacheTTL        time.Duration   `envconfig:"CACHE_TTL" default:"60s"` // how long a quote is fresh
	StaleTTL        time.Duration   `envconfig:"STALE_TTL" default:"10m"` // how long a quote may be answered while the provider fails
}

func loadConfig() (config, error) {
	c := config{Backing: backing.Config{ServesWithoutPostgres: true}} // cached prices
	c.Backing.Load()
	c.Providers.Load()
	c.Budgets.Load()
	err := service.LoadConfig(&c)
	return c, err
}

// Validate reports all faults at once, in the order of the fields.
func (c config) Validate() error {
	return errors.Join(
		c.Config.Validate(), c.Backing.Validate(), c.Providers.Validate(), c.Budgets.Validate(), c.LatestLimit.Check("RATE_LIMIT_LATEST"),
		service.OneOf("DEFAULT_PROVIDER", "provider", c.DefaultProvider, market.Providers()),
		service.EachOf("PROVIDER_CHAIN", "provider", c.ProviderChain, market.Providers()),
		service.Within("CACHE_TTL", c.CacheTTL, time.Second, maxTTL), service.Within("STALE_TTL", c.StaleTTL, c.CacheTTL, maxTTL),
	)
}

// maxTTL is the longest time that a quote may be kept in the cache.
const maxTTL = 366 * 24 * time.Hour

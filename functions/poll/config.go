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
	PollLimit       ratelimit.Limit `envconfig:"RATE_LIMIT_POLL" default:"10/1m"`
	DefaultProvider string          `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	ProviderChain   []string        `envconfig:"PROVIDER_CHAIN"`          // what provider=auto tries, in order; empty: all
	CacheTTL        time.Duration   `envconfig:"CACHE_TTL" default:"60s"` // how long a quote is fresh, for get-latest (poll fills its cache, too) and for other jobs
	StaleTTL        time.Duration   `envconfig:"STALE_TTL" default:"10m"`
	RawRetention    time.Duration   `envconfig:"RAW_RETENTION" default:"720h"`  // how long the bodies of raw responses are kept
	RunsRetention   time.Duration   `envconfig:"RUNS_RETENTION" default:"168h"` // how long the runs of jobs are kept
}

func loadConfig() (config, error) {
	var c config
	c.Backing.Load()
	c.Providers.Load()
	c.Budgets.Load()
	err := service.LoadConfig(&c)
	return c, err
}

const (
	maxTTL       = 366 * 24 * time.Hour
	maxRetention = 100 * 366 * 24 * time.Hour
)

// Validate reports all faults at once, in the order of the fields.
func (c config) Validate() error {
	return errors.Join(
		c.Config.Validate(), c.Backing.Validate(), c.Providers.Validate(), c.Budgets.Validate(), c.PollLimit.Check("RATE_LIMIT_POLL"),
		service.OneOf("DEFAULT_PROVIDER", "provider", c.DefaultProvider, market.Providers()),
		service.EachOf("PROVIDER_CHAIN", "provider", c.ProviderChain, market.Providers()),
		service.Within("CACHE_TTL", c.CacheTTL, time.Second, maxTTL), service.Within("STALE_TTL", c.StaleTTL, c.CacheTTL, maxTTL),
		service.Within("RAW_RETENTION", c.RawRetention, time.Hour, maxRetention), service.Within("RUNS_RETENTION", c.RunsRetention, time.Hour, maxRetention),
	)
}

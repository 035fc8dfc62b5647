package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/kelseyhightower/envconfig"

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
	PollLimit       ratelimit.Limit `envconfig:"RATE_LIMIT_POLL" default:"10/1m"`
	DatabaseURL     service.Secret  `envconfig:"DATABASE_URL"`
	RedisURL        service.Secret  `envconfig:"REDIS_URL"`
	KafkaServers    string          `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	DefaultProvider string          `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	ProviderChain   []string        `envconfig:"PROVIDER_CHAIN"`          // what provider=auto tries, in order; empty: all
	CacheTTL        time.Duration   `envconfig:"CACHE_TTL" default:"60s"` // how long a quote is fresh: for get-latest, whose cache polls fill, and for other jobs
	StaleTTL        time.Duration   `envconfig:"STALE_TTL" default:"10m"`
	RawRetention    time.Duration   `envconfig:"RAW_RETENTION" default:"720h"`  // how long the bodies of raw responses are kept
	RunsRetention   time.Duration   `envconfig:"RUNS_RETENTION" default:"168h"` // how long the runs of jobs are kept
}

func loadConfig() (config, error) {
	var c config
	if err := envconfig.Process("", &c); err != nil {
		return config{}, fmt.Errorf("config: %w", err)
	}
	return c, c.validate()
}

// validate reports every fault at once.
func (c config) validate() error {
	errs := []error{
		c.Config.Validate(), c.Providers.Validate(), c.Limits.Validate(), c.Budgets.Validate(), c.PollLimit.Check("RATE_LIMIT_POLL"),
	}
	for name, value := range map[string]string{
		"DATABASE_URL": string(c.DatabaseURL), "REDIS_URL": string(c.RedisURL), "KAFKA_BOOTSTRAP_SERVERS": c.KafkaServers,
	} {
		if value == "" {
			errs = append(errs, errors.New(name+" is not set"))
		}
	}
	if _, err := market.ParseProvider(c.DefaultProvider); err != nil {
		errs = append(errs, errors.New("DEFAULT_PROVIDER is no provider's name"))
	}
	if c.RawRetention < time.Hour {
		errs = append(errs, errors.New("RAW_RETENTION must be at least 1h"))
	}
	if c.RunsRetention < time.Hour {
		errs = append(errs, errors.New("RUNS_RETENTION must be at least 1h"))
	}
	if c.CacheTTL < time.Second || c.StaleTTL < c.CacheTTL {
		errs = append(errs, errors.New("CACHE_TTL must be at least 1s and STALE_TTL at least CACHE_TTL"))
	}
	return errors.Join(errs...)
}

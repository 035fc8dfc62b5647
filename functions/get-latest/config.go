package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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
	LatestLimit     ratelimit.Limit `envconfig:"RATE_LIMIT_LATEST" default:"5/1m"`
	DatabaseURL     service.Secret  `envconfig:"DATABASE_URL"`
	RedisURL        service.Secret  `envconfig:"REDIS_URL"`
	KafkaServers    string          `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	DefaultProvider string          `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	ProviderChain   []string        `envconfig:"PROVIDER_CHAIN"`          // what provider=auto tries, in order; empty: all
	CacheTTL        time.Duration   `envconfig:"CACHE_TTL" default:"60s"` // how long a quote is fresh
	StaleTTL        time.Duration   `envconfig:"STALE_TTL" default:"10m"` // how long it may stand in for a provider that fails
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
		c.Config.Validate(), c.Providers.Validate(), c.Limits.Validate(), c.Budgets.Validate(), c.LatestLimit.Check("RATE_LIMIT_LATEST"),
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
	for _, name := range c.ProviderChain {
		if _, err := market.ParseProvider(name); err != nil || name == auto {
			errs = append(errs, errors.New("PROVIDER_CHAIN must be names of providers, separated by commas"))
		}
	}
	if c.CacheTTL < time.Second || c.StaleTTL < c.CacheTTL {
		errs = append(errs, errors.New("CACHE_TTL must be at least 1s and STALE_TTL at least CACHE_TTL"))
	}
	return errors.Join(errs...)
}

// chain gives what provider=auto tries: PROVIDER_CHAIN, else the default provider and then all others by name.
func (c config) chain(known []string) ([]string, error) {
	if len(c.ProviderChain) == 0 {
		rest := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return name == c.DefaultProvider })
		if len(rest) == len(known) { // the default is none of them: auto, say
			return rest, nil
		}
		return append([]string{c.DefaultProvider}, rest...), nil
	}
	for _, name := range c.ProviderChain {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("PROVIDER_CHAIN: there is no provider %q, only %s", name, strings.Join(known, ", "))
		}
	}
	return c.ProviderChain, nil
}

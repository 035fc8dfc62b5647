package main

import (
	"errors"
	"fmt"

	"github.com/kelseyhightower/envconfig"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	DatabaseURL   service.Secret `envconfig:"DATABASE_URL"`
	KafkaServers  string         `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	RedisURL      service.Secret `envconfig:"REDIS_URL"` // of the queries' limit alone
	Limits        ratelimit.Config
	Windows       []int `envconfig:"MA_WINDOWS" default:"5,20,50"`      // points, at most 50
	MaxEventBytes int64 `envconfig:"MAX_EVENT_BYTES" default:"1048576"` // larger events are 413
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
	errs := []error{c.Config.Validate(), c.Limits.Validate()}
	if c.DatabaseURL == "" {
		errs = append(errs, errors.New("DATABASE_URL is not set"))
	}
	if c.KafkaServers == "" {
		errs = append(errs, errors.New("KAFKA_BOOTSTRAP_SERVERS is not set"))
	}
	if c.RedisURL == "" {
		errs = append(errs, errors.New("REDIS_URL is not set"))
	}
	if len(c.Windows) == 0 {
		errs = append(errs, errors.New("MA_WINDOWS is empty"))
	}
	seen := map[int]bool{}
	for _, w := range c.Windows {
		if w < 1 || w > series.MaxPoints || seen[w] {
			errs = append(errs, fmt.Errorf("MA_WINDOWS: %d is repeated or not within 1 to %d", w, series.MaxPoints))
		}
		seen[w] = true
	}
	if c.MaxEventBytes < 1 {
		errs = append(errs, errors.New("MAX_EVENT_BYTES must be positive"))
	}
	return errors.Join(errs...)
}

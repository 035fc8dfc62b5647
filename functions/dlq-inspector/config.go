package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/kelseyhightower/envconfig"

	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Limits       ratelimit.Config
	DatabaseURL  service.Secret `envconfig:"DATABASE_URL"`
	RedisURL     service.Secret `envconfig:"REDIS_URL"` // of the limiter; not set: each copy limits alone
	KafkaServers string         `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	ComputeMAURL string         `envconfig:"COMPUTE_MA_URL" default:"http://compute-ma.marketdata.svc.cluster.local"`
	Token        service.Secret `envconfig:"DLQ_TOKEN"`               // one operator's bearer token
	Tokens       service.Secret `envconfig:"DLQ_TOKENS"`              // name:sha256 pairs, comma-separated
	MaxReplays   int            `envconfig:"MAX_REPLAYS" default:"3"` // of one letter without force
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
	errs := []error{c.Config.Validate(), c.Limits.Validate(), validTokens(string(c.Tokens))}
	if c.DatabaseURL == "" {
		errs = append(errs, errors.New("DATABASE_URL is not set"))
	}
	if c.KafkaServers == "" {
		errs = append(errs, errors.New("KAFKA_BOOTSTRAP_SERVERS is not set"))
	}
	if u, err := url.Parse(c.ComputeMAURL); err != nil || u.Host == "" {
		errs = append(errs, errors.New("COMPUTE_MA_URL is not a URL"))
	}
	if c.MaxReplays < 1 {
		errs = append(errs, errors.New("MAX_REPLAYS must be positive"))
	}
	return errors.Join(errs...)
}

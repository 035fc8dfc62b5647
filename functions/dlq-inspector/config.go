package main

import (
	"errors"
	"net/url"

	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Limits       ratelimit.Config
	DatabaseURL  service.Secret `envconfig:"DATABASE_URL"`
	RedisURL     service.Secret `envconfig:"REDIS_URL"` // of the limiter; empty: each replica limits alone
	KafkaServers string         `envconfig:"KAFKA_BOOTSTRAP_SERVERS"`
	ComputeMAURL string         `envconfig:"COMPUTE_MA_URL" default:"http://compute-ma.marketdata.svc.cluster.local"`
	Token        service.Secret `envconfig:"DLQ_TOKEN"`               // one operator's bearer token
	Tokens       service.Secret `envconfig:"DLQ_TOKENS"`              // name:sha256 pairs, comma-separated
	MaxReplays   int            `envconfig:"MAX_REPLAYS" default:"3"` // of one letter without force
}

func loadConfig() (config, error) {
	var c config
	err := service.LoadConfig(&c)
	return c, err
}

// Validate reports every fault at once.
func (c config) Validate() error {
	errs := []error{
		c.Config.Validate(), c.Limits.Validate(), operators.ValidTokens(string(c.Tokens)),
		service.Required("DATABASE_URL", c.DatabaseURL), service.Required("KAFKA_BOOTSTRAP_SERVERS", c.KafkaServers),
	}
	if u, err := url.Parse(c.ComputeMAURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("COMPUTE_MA_URL is not an http or https URL"))
	}
	if c.MaxReplays < 1 {
		errs = append(errs, errors.New("MAX_REPLAYS must be positive"))
	}
	return errors.Join(errs...)
}

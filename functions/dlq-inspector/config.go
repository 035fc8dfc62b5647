package main

import (
	"errors"
	"net/url"
	"time"

	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/shared/backing"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Backing      backing.Config
	ComputeMAURL string         `envconfig:"COMPUTE_MA_URL" default:"http://compute-ma.marketdata.svc.cluster.local"`
	Token        service.Secret `envconfig:"DLQ_TOKEN"`                     // one operator's bearer token
	Tokens       service.Secret `envconfig:"DLQ_TOKENS"`                    // name:sha256 and name:sha256:read, comma-separated
	MaxReplays   int            `envconfig:"MAX_REPLAYS" default:"3"`       // of one letter without force
	Retention    time.Duration  `envconfig:"DLQ_RETENTION" default:"2160h"` // how long resolved, sent and discarded letters are kept
}

func loadConfig() (config, error) {
	c := config{Backing: backing.Config{RedisOptional: true}}
	c.Backing.Load()
	err := service.LoadConfig(&c)
	return c, err
}

const maxRetention = 100 * 366 * 24 * time.Hour

// Validate reports all faults at once, in the order of the fields.
func (c config) Validate() error {
	errs := []error{c.Config.Validate(), c.Backing.Validate()}
	if u, err := url.Parse(c.ComputeMAURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("COMPUTE_MA_URL is not an http or https URL"))
	}
	errs = append(errs, operators.ValidTokens(string(c.Tokens)))
	if c.MaxReplays < 1 {
		errs = append(errs, errors.New("MAX_REPLAYS must be positive"))
	}
	return errors.Join(append(errs, service.Within("DLQ_RETENTION", c.Retention, time.Hour, maxRetention))...)
}

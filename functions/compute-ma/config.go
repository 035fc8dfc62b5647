package main

import (
	"errors"
	"fmt"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/backing"
	"marketdata/shared/market"
	"marketdata/shared/service"
)

type config struct {
	service.Config
	Backing backing.Config
	// DefaultProvider is whose series a query without provider gets: the same as in all functions.
	DefaultProvider string `envconfig:"DEFAULT_PROVIDER" default:"yfinance"`
	Windows         []int  `envconfig:"MA_WINDOWS" default:"5,20,50"`      // points, at most 50
	MaxEventBytes   int64  `envconfig:"MAX_EVENT_BYTES" default:"1048576"` // larger events are dead letters; 413 if they come from no topic
	// StreamMaxClients is how many clients a replica streams to at a time.
	StreamMaxClients int `envconfig:"STREAM_MAX_CLIENTS" default:"1000"`
	// StreamDuration is when a stream ends, at the latest: before the platform ends it, whose timeout is for the whole response.
	StreamDuration time.Duration `envconfig:"STREAM_DURATION" default:"40s"`
}

// mostEventBytes bounds MAX_EVENT_BYTES: a hundred events in flight are in memory whole.
const mostEventBytes = 64 << 20

func loadConfig() (config, error) {
	var c config
	c.Backing.Load()
	err := service.LoadConfig(&c)
	return c, err
}

// Validate reports all faults at once, in the order of the fields.
func (c config) Validate() error {
	errs := []error{
		c.Config.Validate(), c.Backing.Validate(), service.OneOf("DEFAULT_PROVIDER", "provider", c.DefaultProvider, market.Providers()),
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
	return errors.Join(append(errs, service.Within("MAX_EVENT_BYTES", c.MaxEventBytes, 1, mostEventBytes),
		service.Within("STREAM_MAX_CLIENTS", c.StreamMaxClients, 1, 100_000),
		service.Within("STREAM_DURATION", c.StreamDuration, time.Second, time.Hour))...)
}

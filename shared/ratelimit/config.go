package ratelimit

import (
	"errors"
	"time"

	"marketdata/shared/service"
)

// Config is the limiter's part of a function's environment.
type Config struct {
	Timeout        time.Duration `envconfig:"RATE_LIMIT_TIMEOUT" default:"50ms"`         // without a byte from Redis
	MaxCopies      int           `envconfig:"MAX_COPIES" default:"4"`                    // most replicas of a function; divides the limits while Redis is unavailable
	TrustedProxies string        `envconfig:"TRUSTED_PROXIES" default:"127.0.0.0/8,::1"` // addresses and CIDRs whose X-Forwarded-For is trusted; empty: none
	APIKeys        Keys          `envconfig:"API_KEYS" secret:"true"`                    // name:sha256[:5/1m]; empty: the routes are open
	Default        Limit         `envconfig:"RATE_LIMIT_DEFAULT" default:"1200/1m"`      // for routes without a limit of their own
}

// Validate reports all errors at once, in the order of the fields.
func (c Config) Validate() error {
	_, badProxies := parseProxies(c.TrustedProxies)
	_, badKeys := c.APIKeys.parse()
	return errors.Join(
		service.Within("RATE_LIMIT_TIMEOUT", c.Timeout, 1, time.Minute), service.Within("MAX_COPIES", c.MaxCopies, 1, 1<<20),
		badProxies, badKeys, c.Default.Check("RATE_LIMIT_DEFAULT"),
	)
}

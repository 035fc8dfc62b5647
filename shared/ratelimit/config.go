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
	TrustedProxies Proxies       `envconfig:"TRUSTED_PROXIES" default:"127.0.0.0/8,::1"` // whose X-Forwarded-For is trusted
	APIKeys        Keys          `envconfig:"API_KEYS"`                                  // name:sha256[:5/1m]; empty: the routes are open
	Default        Limit         `envconfig:"RATE_LIMIT_DEFAULT" default:"1200/1m"`      // for routes without a limit of their own
}

// Validate reports all errors at once, in the order of the fields.
func (c Config) Validate() error {
	return errors.Join(
		service.Within("RATE_LIMIT_TIMEOUT", c.Timeout, 1, time.Minute), service.Within("MAX_COPIES", c.MaxCopies, 1, 1<<20),
		c.TrustedProxies.err, c.APIKeys.err, c.Default.Check("RATE_LIMIT_DEFAULT"),
	)
}

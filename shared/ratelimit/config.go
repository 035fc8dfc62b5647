package ratelimit

import (
	"errors"
	"fmt"
	"time"
)

// Config is the limiter's part of a function's environment.
type Config struct {
	Timeout        time.Duration `envconfig:"RATE_LIMIT_TIMEOUT" default:"50ms"`         // without a byte from Redis
	MaxCopies      int           `envconfig:"MAX_COPIES" default:"4"`                    // most replicas of a function; divides the limits while Redis is unavailable
	TrustedProxies Proxies       `envconfig:"TRUSTED_PROXIES" default:"127.0.0.0/8,::1"` // whose X-Forwarded-For is trusted
	APIKeys        Keys          `envconfig:"API_KEYS" secret:"true"`                    // name:sha256[:5/1m]; empty: the routes are open
	Default        Limit         `envconfig:"RATE_LIMIT_DEFAULT" default:"1200/1m"`      // for routes without a limit of their own
}

// Validate reports all errors at once.
func (c Config) Validate() error {
	errs := []error{c.TrustedProxies.err, c.APIKeys.err, c.Default.Check("RATE_LIMIT_DEFAULT")}
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("RATE_LIMIT_TIMEOUT: %v is not within 1ns to 1m", c.Timeout))
	}
	if c.MaxCopies < 1 || c.MaxCopies > 1<<20 {
		errs = append(errs, fmt.Errorf("MAX_COPIES: %d is not within 1 to %d", c.MaxCopies, 1<<20))
	}
	return errors.Join(errs...)
}

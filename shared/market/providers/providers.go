// Package providers makes the provider adapters that the environment configures.
package providers

import (
	"errors"
	"net/url"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
	"marketdata/shared/market/yfinance"
)

// Config is the providers' part of a function's environment.
type Config struct {
	Timeout         time.Duration `envconfig:"PROVIDER_TIMEOUT" default:"5s"` // one upstream call, whole
	YFinanceBaseURL string        `envconfig:"YFINANCE_BASE_URL" default:"https://query1.finance.yahoo.com"`
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, errors.New("PROVIDER_TIMEOUT must be positive"))
	}
	if u, err := url.Parse(c.YFinanceBaseURL); err != nil || u.Host == "" {
		errs = append(errs, errors.New("YFINANCE_BASE_URL is not a URL"))
	}
	return errors.Join(errs...)
}

// New makes every adapter, by name.
func New(c Config) map[string]market.Provider {
	client := upstream.New(c.Timeout)
	all := map[string]market.Provider{}
	for _, p := range []market.Provider{yfinance.New(c.YFinanceBaseURL, client)} {
		all[p.Name()] = p
	}
	return all
}

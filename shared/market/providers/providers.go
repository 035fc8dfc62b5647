// Package providers creates the provider adapters from the environment.
package providers

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/alphavantage"
	"marketdata/shared/market/binance"
	"marketdata/shared/market/coinbase"
	"marketdata/shared/market/finnhub"
	"marketdata/shared/market/twelvedata"
	"marketdata/shared/market/upstream"
	"marketdata/shared/market/yfinance"
	"marketdata/shared/secret"
	"marketdata/shared/service"
)

// Config is the providers' part of a function's environment. A provider whose key is missing exists, but returns provider_auth
// without a call.
type Config struct {
	Timeout     time.Duration       `envconfig:"PROVIDER_TIMEOUT" default:"5s"` // of one whole call to a provider
	Entitlement string              `envconfig:"ALPHA_VANTAGE_ENTITLEMENT"`     // of a premium plan: delayed or realtime
	Each        map[string]Settings `ignored:"true"`                            // by name; filled by [Config.Load]
}

// Settings are those of one provider: <NAME>_BASE_URL, and <NAME>_API_KEY or <NAME>_API_KEY_FILE.
type Settings struct {
	BaseURL string
	APIKey  secret.Value // empty if the provider needs none
	err     error        // why the key could not be read
}

// adapters has the constructor of each provider in [market.Catalog].
var adapters = map[string]func(upstream.Config, Config) market.Provider{
	yfinance.Name:     func(u upstream.Config, _ Config) market.Provider { return yfinance.New(u) },
	alphavantage.Name: func(u upstream.Config, c Config) market.Provider { return alphavantage.New(u, c.Entitlement) },
	finnhub.Name:      func(u upstream.Config, _ Config) market.Provider { return finnhub.New(u) },
	twelvedata.Name:   func(u upstream.Config, _ Config) market.Provider { return twelvedata.New(u) },
	binance.Name:      func(u upstream.Config, _ Config) market.Provider { return binance.New(u) },
	coinbase.Name:     func(u upstream.Config, _ Config) market.Provider { return coinbase.New(u) },
}

// Load reads the settings of each provider from the environment. Call it before [Config.Validate].
func (c *Config) Load() {
	c.Each = map[string]Settings{}
	for _, l := range market.Catalog {
		variable := strings.ToUpper(l.Name)
		s := Settings{BaseURL: service.Setting(variable+"_BASE_URL", l.BaseURL)}
		if l.Key {
			s.APIKey, s.err = service.SecretSetting(variable + "_API_KEY")
		}
		c.Each[l.Name] = s
	}
}

// Validate reports all errors at once, in the order of the fields and of [market.Catalog]. They contain no values of text: a URL
// may hold a password, and keys are secret.
func (c Config) Validate() error {
	errs := []error{service.Within("PROVIDER_TIMEOUT", c.Timeout, 1, time.Minute)}
	if !slices.Contains(alphavantage.Entitlements, c.Entitlement) {
		errs = append(errs, errors.New("ALPHA_VANTAGE_ENTITLEMENT must be delayed, realtime or empty"))
	}
	for _, l := range market.Catalog {
		variable, s := strings.ToUpper(l.Name), c.Each[l.Name]
		if !usableBase(s.BaseURL) {
			errs = append(errs, errors.New(variable+"_BASE_URL must be an http or https URL without user, query or fragment"))
		}
		errs = append(errs, s.err)
		if strings.ContainsFunc(string(s.APIKey), func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, errors.New(variable+"_API_KEY has spaces, line breaks or other characters that are not valid in a key"))
		}
	}
	return errors.Join(errs...)
}

func usableBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(text, "?#") // of an empty query, too: the path of a call would become a part of it
}

// Chain returns the providers that provider=auto tries, in order: the configured ones, or else first and then all others by name.
func Chain(configured []string, first string) []string {
	if len(configured) > 0 {
		return configured
	}
	rest := slices.DeleteFunc(market.Providers(), func(name string) bool { return name == first })
	slices.Sort(rest)
	return append([]string{first}, rest...)
}

// New returns all adapters, by name.
func New(c Config) map[string]market.Provider {
	all := map[string]market.Provider{}
	for name, adapter := range adapters {
		all[name] = adapter(upstream.Config{BaseURL: c.Each[name].BaseURL, Key: c.Each[name].APIKey, Timeout: c.Timeout}, c)
	}
	return all
}

// Package providers makes the provider adapters that the environment configures.
package providers

import (
	"errors"
	"fmt"
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
)

// Config is the providers' part of a function's environment. A provider without its key is there all the same, and
// answers provider_auth without a call.
type Config struct {
	Timeout time.Duration `envconfig:"PROVIDER_TIMEOUT" default:"5s"` // one upstream call, whole

	YFinanceBaseURL     string       `envconfig:"YFINANCE_BASE_URL" default:"https://query1.finance.yahoo.com"`
	AlphaVantageBaseURL string       `envconfig:"ALPHA_VANTAGE_BASE_URL" default:"https://www.alphavantage.co"`
	AlphaVantageKey     secret.Value `envconfig:"ALPHA_VANTAGE_API_KEY"`
	Entitlement         string       `envconfig:"ALPHA_VANTAGE_ENTITLEMENT"` // of a premium plan: delayed or realtime
	FinnhubBaseURL      string       `envconfig:"FINNHUB_BASE_URL" default:"https://finnhub.io"`
	FinnhubKey          secret.Value `envconfig:"FINNHUB_API_KEY"`
	TwelveDataBaseURL   string       `envconfig:"TWELVE_DATA_BASE_URL" default:"https://api.twelvedata.com"`
	TwelveDataKey       secret.Value `envconfig:"TWELVE_DATA_API_KEY"`
	BinanceBaseURL      string       `envconfig:"BINANCE_BASE_URL" default:"https://api.binance.com"`
	CoinbaseBaseURL     string       `envconfig:"COINBASE_BASE_URL" default:"https://api.exchange.coinbase.com"`
}

// source is one provider: how its adapter is made, and its part of the environment.
type source struct {
	name    string
	baseURL string
	key     secret.Value
	make    func(upstream.Config) market.Provider
}

// sources lists every provider, in the order of the documentation.
func (c Config) sources() []source {
	return []source{
		{yfinance.Name, c.YFinanceBaseURL, "", func(u upstream.Config) market.Provider { return yfinance.New(u) }},
		{alphavantage.Name, c.AlphaVantageBaseURL, c.AlphaVantageKey, func(u upstream.Config) market.Provider { return alphavantage.New(u, c.Entitlement) }},
		{finnhub.Name, c.FinnhubBaseURL, c.FinnhubKey, func(u upstream.Config) market.Provider { return finnhub.New(u) }},
		{twelvedata.Name, c.TwelveDataBaseURL, c.TwelveDataKey, func(u upstream.Config) market.Provider { return twelvedata.New(u) }},
		{binance.Name, c.BinanceBaseURL, "", func(u upstream.Config) market.Provider { return binance.New(u) }},
		{coinbase.Name, c.CoinbaseBaseURL, "", func(u upstream.Config) market.Provider { return coinbase.New(u) }},
	}
}

// Validate reports all faults at once. It shows no value: a URL may hold a password, a key is one.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("PROVIDER_TIMEOUT: %v is not within 1ns to 1m", c.Timeout))
	}
	for _, s := range c.sources() {
		variable := strings.ToUpper(s.name)
		if !usableBase(s.baseURL) {
			errs = append(errs, errors.New(variable+"_BASE_URL must be an http or https URL without user, query or fragment"))
		}
		if strings.ContainsFunc(string(s.key), func(r rune) bool { return r <= ' ' || r > '~' }) {
			errs = append(errs, errors.New(variable+"_API_KEY has spaces, line ends or other characters that no key has"))
		}
	}
	if !slices.Contains(alphavantage.Entitlements, c.Entitlement) {
		errs = append(errs, errors.New("ALPHA_VANTAGE_ENTITLEMENT must be delayed, realtime or empty"))
	}
	return errors.Join(errs...)
}

func usableBase(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// Names gives every provider's name, in the order of the documentation.
func Names() []string {
	var names []string
	for _, s := range (Config{}).sources() {
		names = append(names, s.name)
	}
	return names
}

// Chain gives what provider=auto tries, in order: the configured names, else first and then all others by name.
func Chain(configured []string, first string) []string {
	if len(configured) > 0 {
		return configured
	}
	rest := slices.DeleteFunc(Names(), func(name string) bool { return name == first })
	slices.Sort(rest)
	return append([]string{first}, rest...)
}

// New makes every adapter, by name.
func New(c Config) map[string]market.Provider {
	all := map[string]market.Provider{}
	for _, s := range c.sources() {
		all[s.name] = s.make(upstream.Config{BaseURL: s.baseURL, Key: s.key, Timeout: c.Timeout})
	}
	return all
}

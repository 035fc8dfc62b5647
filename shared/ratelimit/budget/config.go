package budget

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"marketdata/shared/ratelimit"
)

// Config is the budgets' part of a function's environment: what each provider lets us call, over all replicas. The
// defaults are the free plans'; binance and coinbase limit addresses, far above what is asked of them here.
type Config struct {
	AlphaVantage Limits `envconfig:"ALPHA_VANTAGE_BUDGET" default:"1/1s,5/1m,25/1d"`
	Finnhub      Limits `envconfig:"FINNHUB_BUDGET" default:"60/1m"`
	TwelveData   Limits `envconfig:"TWELVE_DATA_BUDGET" default:"8/1m,800/1d"`
	YFinance     Limits `envconfig:"YFINANCE_BUDGET" default:"60/1m"`
	Binance      Limits `envconfig:"BINANCE_BUDGET" default:"1200/1m"`
	Coinbase     Limits `envconfig:"COINBASE_BUDGET" default:"10/1s"`
}

// byProvider gives the limits under the providers' names in the API.
func (c Config) byProvider() map[string]Limits {
	return map[string]Limits{
		"alpha_vantage": c.AlphaVantage, "finnhub": c.Finnhub, "twelve_data": c.TwelveData,
		"yfinance": c.YFinance, "binance": c.Binance, "coinbase": c.Coinbase,
	}
}

// Limits reports whether calls of the provider are limited.
func (c Config) Limits(provider string) bool { return len(c.byProvider()[provider].all) > 0 }

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	for provider, l := range c.byProvider() {
		if l.bad {
			errs = append(errs, fmt.Errorf("%s_BUDGET is neither off nor limits such as 8/1m,800/1d, at most one of them of a day", strings.ToUpper(provider)))
		}
	}
	return errors.Join(errs...)
}

// Limits are all the limits of one provider. They decode from comma-separated limits, or "off": none.
type Limits struct {
	all []ratelimit.Limit
	day int // calls a day; 0: no limit of a day
	bad bool
}

// UnmarshalText never fails: faults wait for [Config.Validate].
func (l *Limits) UnmarshalText(text []byte) error {
	*l = Limits{}
	if strings.TrimSpace(string(text)) == "off" {
		return nil
	}
	for _, part := range strings.Split(string(text), ",") {
		limit, err := ratelimit.ParseLimit(part)
		l.bad = l.bad || err != nil || (isDay(limit) && l.day > 0)
		if isDay(limit) {
			l.day = limit.N
		}
		l.all = append(l.all, limit)
	}
	return nil
}

func isDay(l ratelimit.Limit) bool { return l.Window == 24*time.Hour }

// functions share the budgets: get-latest and poll.
const functions = 2

// shares is what one replica may do while it cannot ask Redis: of each limit an equal part for every replica of all
// functions that share the budget. It is rounded down, so that together they never do more than the limit; a part of
// nothing admits nothing. The day is not divided, because Postgres counts it for all of them.
func (l Limits) shares(maxCopies int) []ratelimit.Limit {
	shares := make([]ratelimit.Limit, len(l.all))
	for i, limit := range l.all {
		if !isDay(limit) {
			limit.N /= functions * maxCopies
		}
		shares[i] = limit
	}
	return shares
}

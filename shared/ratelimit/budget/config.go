package budget

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
)

// Config is the budgets' part of a function's environment: <NAME>_BUDGET of each provider, what it lets us call over all replicas.
type Config struct {
	Each map[string]Limits `ignored:"true"` // by name; filled by [Config.Load]
}

// Load reads the budgets from the environment; [market.Catalog] has the defaults. Call it before [Config.Validate].
func (c *Config) Load() error {
	c.Each = map[string]Limits{}
	for _, l := range market.Catalog {
		var s struct {
			Budget Limits `split_words:"true"`
		}
		_ = s.Budget.UnmarshalText([]byte(l.Budget)) // never fails
		if err := envconfig.Process(l.Name, &s); err != nil {
			return fmt.Errorf("budget of %s: %w", l.Name, err)
		}
		c.Each[l.Name] = s.Budget
	}
	return nil
}

// Limits reports whether calls of the provider are limited.
func (c Config) Limits(provider string) bool { return len(c.Each[provider].all) > 0 }

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	for _, l := range market.Catalog {
		if c.Each[l.Name].bad {
			errs = append(errs, fmt.Errorf("%s_BUDGET is neither off nor limits such as 8/1m,800/1d, at most one of them of a day", strings.ToUpper(l.Name)))
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

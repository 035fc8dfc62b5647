package budget

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

// Config is the budgets' part of a function's environment: <NAME>_BUDGET of each provider, for all replicas together.
type Config struct {
	Each map[string]Limits `ignored:"true"` // by name; filled by [Config.Load]
}

// Load reads the budgets from the environment; [market.Catalog] has the defaults. Call it before [Config.Validate].
func (c *Config) Load() {
	c.Each = map[string]Limits{}
	for _, l := range market.Catalog {
		c.Each[l.Name] = parseLimits(service.Setting(strings.ToUpper(l.Name)+"_BUDGET", l.Budget))
	}
}

// Limits reports whether calls of the provider are limited.
func (c Config) Limits(provider string) bool { return len(c.Each[provider].all) > 0 }

// Validate reports all errors at once.
func (c Config) Validate() error {
	var errs []error
	for _, l := range market.Catalog {
		if !c.Each[l.Name].valid() {
			errs = append(errs, fmt.Errorf("%s_BUDGET is neither off nor a list of limits such as 8/1m,800/1d, with at most one per day", strings.ToUpper(l.Name)))
		}
	}
	return errors.Join(errs...)
}

// Limits holds all limits of one provider.
type Limits struct {
	all []ratelimit.Limit
	day int // calls per day; 0: no limit per day
}

// parseLimits reads comma-separated limits, or "off": no limits. An invalid one becomes the zero Limit.
func parseLimits(text string) (l Limits) {
	if strings.TrimSpace(text) == "off" {
		return l
	}
	for part := range strings.SplitSeq(text, ",") {
		limit, _ := ratelimit.ParseLimit(part) // valid finds the zero Limit
		if isDay(limit) {
			l.day = limit.N
		}
		l.all = append(l.all, limit)
	}
	return l
}

func (l Limits) valid() bool {
	days := 0
	for _, limit := range l.all {
		if limit == (ratelimit.Limit{}) {
			return false
		}
		if isDay(limit) {
			days++
		}
	}
	return days <= 1
}

func isDay(l ratelimit.Limit) bool { return l.Window == 24*time.Hour }

// functions share the budgets: get-latest and poll.
const functions = 2

// shares returns the limits of one replica without Redis: each limit divided by the most replicas of all functions that share the
// budget. Shares are rounded down, so that all replicas together stay within the limit; a share of zero admits nothing. A limit per
// day is not divided, because Postgres counts the day for all replicas.
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

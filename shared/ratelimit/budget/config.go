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
		c.Each[l.Name] = parseLimits(service.Setting(strings.ToUpper(l.Name)+"_BUDGET", l.Budget)).inCalls(l.Cost)
	}
}

// Limits reports whether calls of the provider are limited.
func (c Config) Limits(provider string) bool { return len(c.Each[provider].all) > 0 }

// Validate reports all errors at once, in the order of [market.Catalog].
func (c Config) Validate() error {
	var errs []error
	for _, l := range market.Catalog {
		if !c.Each[l.Name].valid() {
			errs = append(errs, fmt.Errorf("%s_BUDGET is neither off nor a list of limits such as 8/1m,800/1d, with at most one per day "+
				"and room for a call, which costs %d, in each", strings.ToUpper(l.Name), l.Cost))
		}
	}
	return errors.Join(errs...)
}

// Limits holds all limits of one provider, in calls.
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

// inCalls converts limits in units, of which each call costs the same number, rounded down.
func (l Limits) inCalls(cost int) Limits {
	for i := range l.all {
		l.all[i].N /= cost
	}
	l.day /= cost
	return l
}

// spare returns what calls that can wait may use of the limits.
func (l Limits) spare() Limits { return Limits{all: spare(l.all), day: spareOf(l.day)} }

func spare(limits []ratelimit.Limit) []ratelimit.Limit {
	all := make([]ratelimit.Limit, len(limits))
	for i, limit := range limits {
		limit.N = spareOf(limit.N)
		all[i] = limit
	}
	return all
}

func spareOf(n int) int { return n - n/5 }

func (l Limits) valid() bool {
	days := 0
	for _, limit := range l.all {
		if limit.N < 1 {
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

// Package budget limits our calls of providers to what their plans allow, over all replicas of all functions.
//
// All limits of a provider are decided at once, in the limiter's one script (package ratelimit): a call that one of them
// refuses counts for none. Redis may lose its memory, and a day's budget is too dear to be spent twice: the calls of a
// day are counted in Postgres, too, and both must have room. The two days are not the same. The limiter's 25/1d admits
// 25 calls in any 24 hours, whenever the provider's day begins; Postgres counts calendar days of UTC, on its own clock.
// While Redis keeps its memory the limiter is the stricter one, and Postgres never refuses.
//
// Without Redis each replica has its share of the plan, which is divided among all replicas of both functions.
package budget

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/ratelimit"
)

// limiter decides one call under all limits at once; it never fails.
type limiter interface {
	Take(ctx context.Context, key string, limits, shares []ratelimit.Limit) ratelimit.Decision
}

// dayCounts keeps the calls of each UTC day where Redis cannot lose them.
type dayCounts interface {
	// today gives the calls of today and the time left of it. Unavailable if the database does not answer.
	today(ctx context.Context, provider string) (calls int, left time.Duration, err error)
	// count adds a call; counted is false, and nothing is added, if the limit is spent.
	count(ctx context.Context, provider string, limit int) (counted bool, err error)
}

// Budgets are the budgets of all providers. Safe for concurrent use.
type Budgets struct {
	limits  map[string]Limits
	shares  map[string][]ratelimit.Limit // of this replica, while it cannot ask Redis
	limiter limiter
	days    dayCounts
	metrics *metrics.Set
}

// New makes the budgets on the limiter, which must be that of all other replicas. maxCopies is the most replicas that this
// function may have (MAX_COPIES).
func New(c Config, maxCopies int, l *ratelimit.Limiter, pool postgres.DB, set *metrics.Set) *Budgets {
	return newBudgets(c, maxCopies, l, &pgDays{pool}, set)
}

func newBudgets(c Config, maxCopies int, l limiter, days dayCounts, set *metrics.Set) *Budgets {
	b := &Budgets{limits: c.Each, shares: map[string][]ratelimit.Limit{}, limiter: l, days: days, metrics: set}
	for provider, l := range b.limits {
		b.shares[provider] = l.shares(maxCopies)
		for _, limit := range l.all {
			b.left(provider, limit.WindowText()).Set(float64(limit.N))
		}
	}
	return b
}

// Take spends one call of the provider's budget. provider_rate_limited (Unavailable) with the time after which a call
// passes: it is spent, and nothing was counted. storage_unavailable (Unavailable): a day's count could not be read or
// written, so nothing may be called. Without Redis each replica has its share of every limit, and RetryAfter is a guess
// where that is none.
func (b *Budgets) Take(ctx context.Context, provider string) error {
	limits := b.limits[provider]
	if len(limits.all) == 0 {
		return nil
	}
	var calls int
	var midnight time.Duration
	if limits.day > 0 {
		// A day that Postgres knows to be spent must not fill the limiter's log with calls that were never made.
		var err error
		if calls, midnight, err = b.days.today(ctx, provider); err != nil {
			return err
		}
		if calls >= limits.day {
			b.left(provider, "1d").Set(0)
			return b.spent(provider, midnight)
		}
	}
	d := b.limiter.Take(ctx, "budget:"+provider, limits.all, b.shares[provider])
	b.observe(provider, limits, d, calls)
	switch {
	case d.Allowed:
	case d.Degraded && hasNone(b.shares[provider]):
		return b.refuse(provider, d.Reset, "calls to %s pause until replicas can share its budget again: it is too small to divide")
	case d.Degraded:
		return b.refuse(provider, d.Reset, "this replica's share of the budget of calls to %s is spent")
	default:
		return b.spent(provider, d.Reset)
	}
	if limits.day > 0 {
		counted, err := b.days.count(ctx, provider, limits.day)
		if err != nil {
			return err
		}
		if !counted { // others took the last calls since we looked
			return b.spent(provider, midnight)
		}
	}
	return nil
}

func (b *Budgets) observe(provider string, limits Limits, d ratelimit.Decision, calls int) {
	if d.Allowed {
		calls++
	}
	for i, limit := range limits.all {
		left := d.Left[i]
		if isDay(limit) {
			left = max(min(left, limits.day-calls), 0)
		}
		b.left(provider, limit.WindowText()).Set(float64(left))
	}
}

// left is what a provider's budget had left at its last call.
func (b *Budgets) left(provider, window string) *metrics.Gauge {
	return b.metrics.GetOrCreateGauge(fmt.Sprintf("provider_budget_left{provider=%q,window=%q}", provider, window), nil)
}

func (b *Budgets) spent(provider string, wait time.Duration) error {
	return b.refuse(provider, wait, "the budget of calls to %s is spent")
}

// refuse gives the error of a call that must not be made; detail has a place for the provider's name.
func (b *Budgets) refuse(provider string, wait time.Duration, detail string) error {
	b.metrics.GetOrCreateCounter(fmt.Sprintf("provider_budget_refusals_total{provider=%q}", provider)).Inc()
	return fault.New(fault.Unavailable, "provider_rate_limited", detail, provider).After(wait)
}

// hasNone reports whether one of the shares is nothing.
func hasNone(shares []ratelimit.Limit) bool {
	return slices.ContainsFunc(shares, func(l ratelimit.Limit) bool { return l.N < 1 })
}

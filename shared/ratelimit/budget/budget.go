// Package budget limits our calls to providers to what their plans allow, over all replicas of all functions.
//
// All limits of a provider are checked at once, by the script of package ratelimit: a call that one of them refuses counts for
// none. Redis may lose its data, and a day's budget is too valuable to be spent twice, so the calls of a day are also counted in
// Postgres, and both must have room. The two days differ. The limiter's 25/1d admits 25 calls in any 24 hours, whenever the
// provider's day begins; Postgres counts calendar days in UTC, on its own clock. While Redis keeps its data, the limiter is the
// stricter of the two and Postgres never refuses.
//
// Without Redis, each replica has its share of the plan, which is divided among all replicas of both functions.
package budget

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
	"marketdata/shared/metric"
	"marketdata/shared/postgres"
	"marketdata/shared/ratelimit"
)

// limiter decides a call under all limits at once. It never fails.
type limiter interface {
	Take(ctx context.Context, key string, limits, shares []ratelimit.Limit) ratelimit.Decision
}

// dayCounts counts the calls of each UTC day, independently of Redis.
type dayCounts interface {
	// today returns the number of calls made today and the time left until midnight. Unavailable if the database does not answer.
	today(ctx context.Context, provider string) (calls int, left time.Duration, err error)
	// count adds a call. If the limit is reached, it adds nothing and returns false.
	count(ctx context.Context, provider string, limit int) (counted bool, err error)
}

// Budgets holds the budgets of all providers. Safe for concurrent use.
type Budgets struct {
	limits  map[string]Limits
	shares  map[string][]ratelimit.Limit // of this replica, without Redis
	limiter limiter
	days    dayCounts
	metrics *metrics.Set
}

// New returns the budgets. All replicas must use the same Redis in the limiter. maxCopies is the most replicas that this function
// may have (MAX_COPIES).
func New(c Config, maxCopies int, l *ratelimit.Limiter, pool postgres.DB, set *metrics.Set) *Budgets {
	return newBudgets(c, maxCopies, l, &pgDays{pool}, set)
}

func newBudgets(c Config, maxCopies int, l limiter, days dayCounts, set *metrics.Set) *Budgets {
	b := &Budgets{limits: c.Each, shares: map[string][]ratelimit.Limit{}, limiter: l, days: days, metrics: set}
	metric.Describe(help)
	for provider, l := range b.limits {
		if len(l.all) > 0 {
			b.refusals(provider)
		}
		b.shares[provider] = l.shares(maxCopies)
		for _, limit := range l.all {
			b.left(provider, limit.WindowText()).Set(float64(limit.N))
		}
	}
	return b
}

// Take spends one call of the provider's budget. Errors are provider_rate_limited (Unavailable), with the time until a call is
// possible, if the budget is spent: nothing was counted; and storage_unavailable (Unavailable) if the day's count could not be
// read or written: the call must not be made. Without Redis, each replica has its share of every limit; if a share is zero,
// RetryAfter is a guess.
func (b *Budgets) Take(ctx context.Context, provider string) error {
	return b.take(ctx, provider, b.limits[provider], b.shares[provider])
}

// TakeSpare is Take for a call that can wait, such as one for a history: a fifth of each limit, rounded down, is left to Take. So
// whoever waits for the budget with Take gets what becomes free.
func (b *Budgets) TakeSpare(ctx context.Context, provider string) error {
	return b.take(ctx, provider, b.limits[provider].spare(), spare(b.shares[provider]))
}

func (b *Budgets) take(ctx context.Context, provider string, limits Limits, shares []ratelimit.Limit) error {
	if len(limits.all) == 0 {
		return nil
	}
	var calls int
	var midnight time.Duration
	if limits.day > 0 {
		// Once Postgres has counted the day's limit, do not fill the limiter's log with calls that are not made.
		var err error
		if calls, midnight, err = b.days.today(ctx, provider); err != nil {
			return err
		}
		if calls >= limits.day {
			b.left(provider, "1d").Set(float64(max(b.limits[provider].day-calls, 0)))
			return b.spent(provider, midnight)
		}
	}
	d := b.limiter.Take(ctx, "budget:"+provider, limits.all, shares)
	b.observe(provider, limits, d, calls)
	switch {
	case d.Allowed:
	case d.Degraded && hasNone(shares):
		return b.refuse(provider, d.Reset, "calls to %s are paused until replicas share its budget again: it is too small to divide")
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
		if !counted { // other replicas spent the last calls meanwhile
			return b.spent(provider, midnight)
		}
	}
	return nil
}

func (b *Budgets) observe(provider string, limits Limits, d ratelimit.Decision, calls int) {
	if d.Allowed {
		calls++
	}
	for i, limit := range b.limits[provider].all {
		left := d.Left[i] + limit.N - limits.all[i].N
		if isDay(limit) {
			left = min(left, limit.N-calls)
		}
		b.left(provider, limit.WindowText()).Set(float64(left))
	}
}

var help = []metric.Help{
	{Name: "marketdata_provider_budget_left", Text: "Calls left of a provider's budget after the last call, by window."},
	{Name: "marketdata_provider_budget_refusals_total", Text: "Calls not made because the provider's budget was spent."},
}

func (b *Budgets) refusals(provider string) *metrics.Counter {
	return b.metrics.GetOrCreateCounter(fmt.Sprintf("marketdata_provider_budget_refusals_total{provider=%q}", provider))
}

// left returns the gauge of what was left of a provider's budget at its last call.
func (b *Budgets) left(provider, window string) *metrics.Gauge {
	return b.metrics.GetOrCreateGauge(fmt.Sprintf("marketdata_provider_budget_left{provider=%q,window=%q}", provider, window), nil)
}

func (b *Budgets) spent(provider string, wait time.Duration) error {
	return b.refuse(provider, wait, "the budget of calls to %s is spent")
}

// refuse returns the error of a call that must not be made; detail is a format for the provider's name.
func (b *Budgets) refuse(provider string, wait time.Duration, detail string) error {
	b.refusals(provider).Inc()
	return fault.New(fault.Unavailable, fault.CodeProviderRateLimited, detail, provider).After(wait)
}

// hasNone reports whether one of the shares is zero.
func hasNone(shares []ratelimit.Limit) bool {
	return slices.ContainsFunc(shares, func(l ratelimit.Limit) bool { return l.N < 1 })
}

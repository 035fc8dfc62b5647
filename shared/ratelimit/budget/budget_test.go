package budget

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ratelimit"
	"marketdata/shared/testenv/scrape"
)

// steps fakes the limiter and the day counts, and records the order of calls.
type steps struct {
	order    []string
	decision ratelimit.Decision
	limits   []ratelimit.Limit
	shares   []ratelimit.Limit
	calls    int
	counted  bool
	err      error // of the database
	countErr error // of the database, once the limiter has decided
}

func (s *steps) Take(_ context.Context, key string, limits, shares []ratelimit.Limit) ratelimit.Decision {
	s.order, s.limits, s.shares = append(s.order, key), limits, shares
	return s.decision
}

func (s *steps) today(context.Context, string) (int, time.Duration, error) {
	s.order = append(s.order, "look")
	return s.calls, 7 * time.Hour, s.err
}

func (s *steps) count(_ context.Context, _ string, limit int) (bool, error) {
	s.order = append(s.order, "count")
	if limit != 25 {
		return false, errors.New("not the day's limit")
	}
	return s.counted, cmp.Or(s.err, s.countErr)
}

func limitsOf(t *testing.T, text string) Limits {
	t.Helper()
	l := parseLimits(text)
	require.True(t, l.valid())
	return l
}

func TestOrderOfLimiterAndDayCount(t *testing.T) {
	t.Parallel()
	yes := ratelimit.Decision{Allowed: true, Left: []int{0, 4, 20}, Reset: time.Second}
	no := ratelimit.Decision{Left: []int{0, 4, 20}, Reset: 900 * time.Millisecond}
	down := fault.New(fault.Unavailable, "storage_unavailable", "x")
	for name, c := range map[string]struct {
		steps steps
		order string
		code  string
		wait  time.Duration
	}{
		"room everywhere":              {steps{decision: yes, calls: 3, counted: true}, "look budget:alpha_vantage count", "", 0},
		"the limiter refuses":          {steps{decision: no, calls: 3}, "look budget:alpha_vantage", "provider_rate_limited", 900 * time.Millisecond},
		"the day is spent":             {steps{decision: yes, calls: 25}, "look", "provider_rate_limited", 7 * time.Hour},
		"others spent it meanwhile":    {steps{decision: yes, calls: 24}, "look budget:alpha_vantage count", "provider_rate_limited", 7 * time.Hour},
		"the database does not answer": {steps{decision: yes, err: down}, "look", "storage_unavailable", 0},
		"the database goes away":       {steps{decision: yes, countErr: down}, "look budget:alpha_vantage count", "storage_unavailable", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBudgets(Config{Each: map[string]Limits{"alpha_vantage": limitsOf(t, "1/1s,5/1m,25/1d")}}, 4, &c.steps, &c.steps, metrics.NewSet())
			err := b.Take(t.Context(), "alpha_vantage")
			require.Equal(t, c.order, strings.Join(c.steps.order, " "))
			if c.code == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, c.code, fault.CodeOf(err))
			require.Equal(t, fault.Unavailable, fault.KindOf(err))
			f, _ := fault.As(err)
			require.Equal(t, c.wait, f.RetryAfter)
			if c.code == "provider_rate_limited" {
				require.Contains(t, f.Detail, "the budget of calls to alpha_vantage is spent")
			}
		})
	}
}

// A call that can wait leaves a fifth of each limit, of the day's and of a replica's share, too. The gauges are of the whole limits.
func TestSpareCallsLeaveAFifth(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	s := &steps{decision: ratelimit.Decision{Allowed: true, Left: []int{0, 3, 19}}, calls: 0, counted: true}
	b := newBudgets(Config{Each: map[string]Limits{"alpha_vantage": limitsOf(t, "1/1s,50/1m,31/1d")}}, 1, s, s, set)
	require.NoError(t, b.TakeSpare(t.Context(), "alpha_vantage"))
	require.Equal(t, []ratelimit.Limit{{N: 1, Window: time.Second}, {N: 40, Window: time.Minute}, {N: 25, Window: 24 * time.Hour}}, s.limits)
	require.Equal(t, []ratelimit.Limit{{N: 0, Window: time.Second}, {N: 20, Window: time.Minute}, {N: 25, Window: 24 * time.Hour}}, s.shares)
	left := scrape.Values(t, set.WritePrometheus)
	require.InDelta(t, 13, left[`marketdata_provider_budget_left{provider="alpha_vantage",window="1m"}`], 0)
	require.InDelta(t, 25, left[`marketdata_provider_budget_left{provider="alpha_vantage",window="1d"}`], 0)
	s.calls = 25
	require.Equal(t, "provider_rate_limited", fault.CodeOf(b.TakeSpare(t.Context(), "alpha_vantage")))
	require.InDelta(t, 6, scrape.Values(t, set.WritePrometheus)[`marketdata_provider_budget_left{provider="alpha_vantage",window="1d"}`], 0)
	require.NoError(t, b.TakeSpare(t.Context(), "yfinance"), "off")
}

func TestBudgetsWithoutADayNeedNoDatabase(t *testing.T) {
	t.Parallel()
	s := &steps{decision: ratelimit.Decision{Allowed: true, Left: []int{59}}}
	b := newBudgets(Config{Each: map[string]Limits{"finnhub": limitsOf(t, "60/1m")}}, 4, s, s, metrics.NewSet())
	require.NoError(t, b.Take(t.Context(), "finnhub"))
	require.Equal(t, []string{"budget:finnhub"}, s.order)
	require.Equal(t, []ratelimit.Limit{{N: 60, Window: time.Minute}}, s.limits)
	require.Equal(t, []ratelimit.Limit{{N: 7, Window: time.Minute}}, s.shares, "over 4 replicas of each of two functions")
	require.NoError(t, b.Take(t.Context(), "yfinance"), "off")
	require.Len(t, s.order, 1)
}

func TestADayOfOneCall(t *testing.T) {
	t.Parallel()
	s := &steps{decision: ratelimit.Decision{Allowed: true, Left: []int{0}}, calls: 1}
	b := newBudgets(Config{Each: map[string]Limits{"finnhub": limitsOf(t, "1/1d")}}, 4, s, s, metrics.NewSet())
	require.Equal(t, "provider_rate_limited", fault.CodeOf(b.Take(t.Context(), "finnhub")))
	require.Equal(t, []string{"look"}, s.order, "the limiter is not asked once the day is spent")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	set := metrics.NewSet()
	s := &steps{decision: ratelimit.Decision{Allowed: true, Left: []int{0, 3, 20}}, calls: 9, counted: true}
	b := newBudgets(Config{Each: map[string]Limits{"alpha_vantage": limitsOf(t, "1/1s,5/1m,25/1d")}}, 4, s, s, set)
	left := func(window string) string {
		return `marketdata_provider_budget_left{provider="alpha_vantage",window="` + window + `"}`
	}
	require.Equal(t, map[string]float64{
		left("1s"): 1, left("1m"): 5, left("1d"): 25,
		`marketdata_provider_budget_refusals_total{provider="alpha_vantage"}`: 0,
	}, scrape.Values(t, set.WritePrometheus))
	require.NoError(t, b.Take(t.Context(), "alpha_vantage"))
	require.InDelta(t, 15, scrape.Values(t, set.WritePrometheus)[left("1d")], 0, "Postgres has counted more calls than the limiter")
	s.decision.Allowed, s.calls = false, 10
	require.Error(t, b.Take(t.Context(), "alpha_vantage"))
	require.InDelta(t, 15, scrape.Values(t, set.WritePrometheus)[left("1d")], 0, "a refused call costs nothing")
	s.calls = 26 // the budget was larger before
	require.Error(t, b.Take(t.Context(), "alpha_vantage"))
	require.Equal(t, map[string]float64{
		left("1s"): 0, left("1m"): 3,
		left("1d"): 0,
		`marketdata_provider_budget_refusals_total{provider="alpha_vantage"}`: 2,
	}, scrape.Values(t, set.WritePrometheus))
}

// A provider has metrics from the start if it has a budget, with however many limits, and none otherwise.
func TestMetricsAtTheStart(t *testing.T) {
	t.Parallel()
	set, c := metrics.NewSet(), Config{Each: map[string]Limits{"finnhub": limitsOf(t, "60/1m"), "yfinance": limitsOf(t, "off")}}
	newBudgets(c, 4, &steps{}, &steps{}, set)
	require.Equal(t, map[string]float64{
		`marketdata_provider_budget_left{provider="finnhub",window="1m"}`: 60, `marketdata_provider_budget_refusals_total{provider="finnhub"}`: 0,
	}, scrape.Values(t, set.WritePrometheus))
	require.True(t, c.Limits("finnhub"))
	require.False(t, c.Limits("yfinance"))
}

func TestConfig(t *testing.T) {
	t.Parallel()
	l := limitsOf(t, " 1/1s, 5/1m ,25/1d")
	require.Equal(t, []ratelimit.Limit{{N: 1, Window: time.Second}, {N: 5, Window: time.Minute}, {N: 25, Window: 24 * time.Hour}}, l.all)
	require.Equal(t, 25, l.day)
	require.Zero(t, limitsOf(t, "9/2d").day, "only a limit of 1d is counted per day")
	require.Empty(t, limitsOf(t, "off").all)
	require.NoError(t, Config{Each: map[string]Limits{"yfinance": limitsOf(t, "off")}}.Validate())
	c := Config{Each: map[string]Limits{}}
	for _, bad := range []string{"", "on", "60", "60/1m,", "0/1m", "1/1d,2/24h"} {
		c.Each["finnhub"] = parseLimits(bad)
		require.ErrorContains(t, c.Validate(), "FINNHUB_BUDGET", bad)
	}
	c.Each["twelve_data"] = parseLimits("on")
	require.ErrorContains(t, c.Validate(), "FINNHUB_BUDGET")
	require.ErrorContains(t, c.Validate(), "TWELVE_DATA_BUDGET")
}

func TestLimitsInUnitsOfTheProvider(t *testing.T) {
	t.Parallel()
	var c Config
	c.Load()
	require.Equal(t, limitsOf(t, "600/1m"), c.Each["binance"], "each call has weight 2")
	require.Equal(t, limitsOf(t, "8/1m,800/1d"), c.Each["twelve_data"], "each call costs one credit")
	require.Equal(t, limitsOf(t, "2/1m,20/1d"), parseLimits("5/1m,41/1d").inCalls(2), "rounded down")
	c.Each["binance"] = parseLimits("1/1m").inCalls(2)
	require.ErrorContains(t, c.Validate(), "BINANCE_BUDGET", "it never has room for a call")
}

package budget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
)

// calendar counts days as Postgres does, for all replicas.
type calendar struct{ calls map[time.Time]int }

func (c *calendar) day() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }

func (c *calendar) today(context.Context, string) (int, time.Duration, error) {
	return c.calls[c.day()], time.Until(c.day().Add(24 * time.Hour)), nil
}

func (c *calendar) count(_ context.Context, _ string, limit int) (bool, error) {
	if c.calls[c.day()] >= limit {
		return false, nil
	}
	c.calls[c.day()]++
	return true, nil
}

// withoutRedis returns as many replicas as may run, none of which reaches Redis.
func withoutRedis(t *testing.T, plan string, maxCopies int) (replicas []*Budgets, days *calendar) {
	t.Helper()
	days = &calendar{map[time.Time]int{}}
	opened, err := redisclient.Open("redis://127.0.0.1:1")
	require.NoError(t, err)
	options := *opened.Options()
	require.NoError(t, opened.Close())
	options.Dialer = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	options.MaxRetries = -1    // no retries; an open client's options have 0, which would mean the default of 3
	options.PoolSize = 100_000 // after as many failed dials, go-redis dials in the background, beyond the end of the test
	for range functions * maxCopies {
		client := redis.NewClient(&options)
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		l := ratelimit.New(client, ratelimit.Config{Timeout: time.Second, MaxCopies: maxCopies}, slog.New(slog.DiscardHandler))
		t.Cleanup(func() { require.NoError(t, l.Close()) })
		replicas = append(replicas, newBudgets(Config{Each: map[string]Limits{"alpha_vantage": limitsOf(t, plan)}}, maxCopies, l, days, metrics.NewSet()))
	}
	return replicas, days
}

// Without Redis, all replicas of both functions stay within the plan: within its windows because each replica has its share, within
// its day because Postgres counts it.
func TestWithoutRedisAllReplicasStayWithinThePlan(t *testing.T) {
	t.Parallel()
	for i, plan := range []string{"60/1m", "8/1m,800/1d", "1/1s,5/1m,25/1d", "1200/1m", "7/1m,30/1d", "10/1s", "16/1h", "31/2h,90/2d"} {
		for _, maxCopies := range []int{1, 4} {
			t.Run(fmt.Sprint(plan, " over ", maxCopies), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { staysWithinThePlan(t, plan, maxCopies, uint64(i)) })
			})
		}
	}
}

func staysWithinThePlan(t *testing.T, plan string, maxCopies int, seed uint64) {
	t.Helper()
	limits := limitsOf(t, plan).all
	replicas, days := withoutRedis(t, plan, maxCopies)
	rng := rand.New(rand.NewPCG(seed, 11))
	var made []time.Time
	for range 300 {
		for range rng.IntN(60) {
			if replicas[rng.IntN(len(replicas))].Take(t.Context(), "alpha_vantage") == nil {
				made = append(made, time.Now())
			}
		}
		window := limits[rng.IntN(len(limits))].Window
		<-time.After(time.Duration(rng.Int64N(int64(window))))
	}
	share := limits[0].N
	for _, l := range limits {
		if isDay(l) {
			continue
		}
		share = min(share, l.N/len(replicas))
		for i := l.N; i < len(made); i++ {
			require.GreaterOrEqual(t, made[i].Sub(made[i-l.N]), l.Window, "more than %v", l)
		}
	}
	for _, calls := range days.calls {
		require.LessOrEqual(t, calls, limitsOf(t, plan).day)
	}
	require.Equal(t, share > 0, len(made) > 0, "calls are made if there is a share")
}

func TestWithoutRedisASpentShareDiffersFromNoShare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan   string
		passes int
		wait   time.Duration
		detail string
	}{
		"a share":        {"17/1m,25/1d", 2, time.Minute, "this replica's share of the budget of calls to alpha_vantage is spent"},
		"a share of one": {"15/1m,25/1d", 1, time.Minute, "this replica's share of the budget of calls to alpha_vantage is spent"},
		"no share":       {"1/1s,50/1m,25/1d", 0, 30 * time.Second, "calls to alpha_vantage are paused until replicas share its budget again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				replicas, days := withoutRedis(t, c.plan, 4)
				for range c.passes {
					require.NoError(t, replicas[0].Take(t.Context(), "alpha_vantage"))
				}
				err := replicas[0].Take(t.Context(), "alpha_vantage")
				f, ok := fault.As(err)
				require.True(t, ok)
				require.Equal(t, fault.Unavailable, f.Kind)
				require.Equal(t, "provider_rate_limited", f.Code)
				require.Equal(t, c.wait, f.RetryAfter)
				require.Contains(t, f.Detail, c.detail)
				require.Equal(t, c.passes, days.calls[days.day()], "a refused call does not count against the day")
			})
		})
	}
}

// The budgets are divided among the functions that make calls. The constant functions must be their number.
func TestFunctionsThatShareTheBudgets(t *testing.T) {
	t.Parallel()
	mains, err := filepath.Glob("../../../functions/*/main.go")
	require.NoError(t, err)
	require.NotEmpty(t, mains)
	sharing := 0
	for _, path := range mains {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		if strings.Contains(string(text), "budget.New(") {
			sharing++
		}
	}
	require.Equal(t, functions, sharing)
}

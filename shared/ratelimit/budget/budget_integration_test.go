//go:build integration

package budget

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/testenv"
)

// fleet is several replicas with one database and a Redis of their own, whose data the tests delete.
type fleet struct {
	replicas []*Budgets
	redis    *miniredis.Miniredis
	pool     *pgxpool.Pool
}

func newFleet(t *testing.T, replicas int, alphaVantage string) *fleet {
	t.Helper()
	f := &fleet{redis: miniredis.RunT(t), pool: testenv.Postgres(t)}
	for range replicas {
		client, err := redisclient.Open("redis://" + f.redis.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		limiter := ratelimit.New(client, ratelimit.Config{Timeout: time.Minute, MaxCopies: 4}, slog.New(slog.DiscardHandler))
		f.replicas = append(f.replicas, New(Config{Each: map[string]Limits{"alpha_vantage": limitsOf(t, alphaVantage)}}, 4, limiter, f.pool, metrics.NewSet()))
	}
	return f
}

// take makes n concurrent calls of Take in each replica, and returns how many were allowed.
func (f *fleet) take(t *testing.T, n int) int {
	t.Helper()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for _, b := range f.replicas {
		for range n {
			wg.Go(func() {
				switch err := b.Take(context.WithoutCancel(t.Context()), "alpha_vantage"); {
				case err == nil:
					allowed.Add(1)
				case fault.CodeOf(err) != "provider_rate_limited":
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	return int(allowed.Load())
}

func (f *fleet) calls(t *testing.T) (n int) {
	t.Helper()
	const q = "select coalesce(sum(calls), 0) from provider_day_counts where day = (now() at time zone 'UTC')::date"
	require.NoError(t, f.pool.QueryRow(t.Context(), q).Scan(&n))
	return n
}

func TestReplicasShareTheBudgetAndPostgresCountsTheDay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "5/1h,7/1d")
	require.Equal(t, 5, f.take(t, 10))
	require.Equal(t, 5, f.calls(t), "a refused call does not count against the day")
	f.redis.FlushAll()
	require.Equal(t, 2, f.take(t, 10), "the day is not spent twice although Redis lost its data")
	require.Equal(t, 7, f.calls(t))
	before := f.redis.CommandCount()
	require.Zero(t, f.take(t, 10))
	require.Equal(t, before, f.redis.CommandCount(), "once the day is spent, Redis is not asked")
}

func TestYesterdayDoesNotCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "7/1d")
	const q = "insert into provider_day_counts (provider, day, calls) select 'alpha_vantage', (now() at time zone 'UTC')::date + d, 7 from generate_series(-3, -1) d"
	_, err := f.pool.Exec(t.Context(), q)
	require.NoError(t, err)
	require.Equal(t, 7, f.take(t, 10))
	err = f.replicas[0].Take(t.Context(), "alpha_vantage")
	spent, ok := fault.As(err)
	require.True(t, ok)
	require.Equal(t, "provider_rate_limited", spent.Code)
	require.Positive(t, spent.RetryAfter)
	require.LessOrEqual(t, spent.RetryAfter, 24*time.Hour, "until midnight in UTC")
}

func TestWithoutRedisEachReplicaHasItsShareAndTheDayIsNotDivided(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, "17/1h,5/1d")
	f.redis.Close()
	require.Equal(t, 5, f.take(t, 10), "3 replicas have a share of 2 each, and Postgres admits 5 per day")
	require.Equal(t, 5, f.calls(t))
	f = newFleet(t, 3, "1/1d")
	f.redis.Close()
	require.Equal(t, 1, f.take(t, 10), "not even the least limit is divided")
}

func TestWithoutPostgresNoCallIsAllowed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "5/1d")
	f.pool.Close()
	err := f.replicas[0].Take(t.Context(), "alpha_vantage")
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	require.False(t, f.redis.Exists("limit:budget:alpha_vantage"))
}

// A call that cannot be counted must not be made, even if the count could be read.
func TestACallThatCannotBeCountedIsNotAllowed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "5/1d")
	_, err := f.pool.Exec(t.Context(), "alter table provider_day_counts rename constraint provider_day_counts_pk to gone")
	require.NoError(t, err)
	require.Equal(t, "storage_unavailable", fault.CodeOf(f.replicas[0].Take(t.Context(), "alpha_vantage")))
}

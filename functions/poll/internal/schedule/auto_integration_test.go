//go:build integration

package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A job of provider auto tries the chain for each symbol. Its results name the provider that answered.
func TestAutoTriesTheChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, jobs.Auto, 60, "AAPL", "MSFT", "NONE")
	b.ingest.Answer = func(_ context.Context, provider string, s market.Symbol) error {
		switch {
		case s == "MSFT" && provider == "yfinance":
			return fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x")
		case s == "NONE" && provider == "yfinance":
			return fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
		case s == "NONE":
			return fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
		}
		return nil
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, "auto", b.job(t, id).Config.Provider)
	by := map[market.Symbol]string{}
	for _, r := range b.results(t, id) {
		if r.Provider != "" {
			by[r.Symbol] = r.Provider
		}
	}
	require.Equal(t, map[market.Symbol]string{"AAPL": "yfinance", "MSFT": "slow"}, by)
	require.Equal(t, map[market.Symbol]jobs.Outcome{"AAPL": jobs.OK, "MSFT": jobs.OK, "NONE": fault.CodeProviderUnavailable}, b.outcomes(t, id), "the most useful failure")
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "slow MSFT": 1}, b.ingest.Calls)
}

// Auto does not wait for a spent budget while there is another provider.
func TestAutoDoesNotWaitForABudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, jobs.Auto, 60, "AAPL")
	b.ingest.Room = func(provider string) error {
		if provider == "yfinance" {
			return polltest.Limited(5 * time.Second)
		}
		return nil
	}
	began := time.Now()
	require.NoError(t, b.tick.Run(t.Context()))
	require.Less(t, time.Since(began), 4*time.Second)
	require.Equal(t, map[market.Symbol]jobs.Outcome{"AAPL": jobs.OK}, b.outcomes(t, id))
	require.Equal(t, map[string]int{"slow AAPL": 1}, b.ingest.Calls)
}

// Jobs of auto and jobs that name the provider share its fetches, whichever comes first.
func TestAutoSharesFetches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, jobs.Auto, 60, "AAPL", "MSFT")
	b.create(t, "yfinance", 60, "MSFT", "AAPL")
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 2, b.Count(t, "select count(*) from polling_runs where failed = 0"))
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "yfinance MSFT": 1}, b.ingest.Calls)
}

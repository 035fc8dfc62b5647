//go:build integration

package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A job of provider auto tries the chain for each symbol, and says who answered.
func TestAutoTriesTheChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL","MSFT","NONE"],"provider":"auto"}`)
	b.ingest.answer = func(_ context.Context, provider string, s market.Symbol) error {
		switch {
		case s == "MSFT" && provider == "yfinance":
			return fault.New(fault.Unavailable, "provider_timeout", "x")
		case s == "NONE" && provider == "yfinance":
			return fault.New(fault.Unavailable, "provider_unavailable", "x")
		case s == "NONE":
			return fault.New(fault.NotFound, "symbol_not_found", "x")
		}
		return nil
	}
	require.NoError(t, b.tick.run(t.Context()))
	v := b.show(t, id)
	require.Equal(t, "auto", v.Config.Provider)
	by := map[market.Symbol]string{}
	for _, r := range v.Results {
		if r.Provider != nil {
			by[r.Symbol] = *r.Provider
		}
	}
	require.Equal(t, map[market.Symbol]string{"AAPL": "yfinance", "MSFT": "slow"}, by)
	require.Equal(t, map[market.Symbol]string{"AAPL": "ok", "MSFT": "ok", "NONE": "provider_unavailable"}, b.codes(t, id), "the most useful failure")
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "slow MSFT": 1}, b.ingest.calls)
}

// A budget that is spent is no reason to wait while there is another provider.
func TestAutoDoesNotWaitForABudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"],"provider":"auto"}`)
	b.ingest.reserve = func(provider string) error {
		if provider == "yfinance" {
			return limited(5 * time.Second)
		}
		return nil
	}
	began := time.Now()
	require.NoError(t, b.tick.run(t.Context()))
	require.Less(t, time.Since(began), 4*time.Second)
	require.Equal(t, map[market.Symbol]string{"AAPL": "ok"}, b.codes(t, id))
	require.Equal(t, map[string]int{"slow AAPL": 1}, b.ingest.calls)
}

// Jobs of auto and jobs that name the provider share its fetches, whoever comes first.
func TestAutoSharesFetches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, `{"symbols":["AAPL","MSFT"],"provider":"auto"}`)
	b.create(t, `{"symbols":["MSFT","AAPL"],"provider":"yfinance"}`)
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 2, b.count(t, "select count(*) from polling_runs where failed = 0"))
	require.Equal(t, map[string]int{"yfinance AAPL": 1, "yfinance MSFT": 1}, b.ingest.calls)
}

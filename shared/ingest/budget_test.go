package ingest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

type budgetFunc func(ctx context.Context, provider string) error

func (f budgetFunc) Take(ctx context.Context, provider string) error { return f(ctx, provider) }

func (f budgetFunc) TakeSpare(ctx context.Context, provider string) error {
	return f(ctx, "spare "+provider)
}

type providerFunc func() error

func (providerFunc) Name() string { return "p" }

func (f providerFunc) Latest(context.Context, market.Symbol) (market.Quote, market.Response, error) {
	return market.Quote{}, market.Response{}, f()
}

// Each call spends the budget once, just before it is made. If the budget is spent, its error is returned without a call.
func TestBudgetIsSpentBeforeTheCall(t *testing.T) {
	t.Parallel()
	var asked []string
	var spent error
	called := 0
	down := fault.New(fault.Unavailable, "provider_unavailable", "x")
	in := New(nil, nil, "price-events", map[string]market.Provider{"p": providerFunc(func() error { called++; return down })}, slog.New(slog.DiscardHandler)).
		Within(budgetFunc(func(_ context.Context, provider string) error {
			asked = append(asked, provider)
			return spent
		}))
	_, err := in.Fetch(t.Context(), "p", "AAPL")
	require.Equal(t, "provider_unavailable", fault.CodeOf(err))
	require.Equal(t, 1, called)
	spent = fault.New(fault.Unavailable, "provider_rate_limited", "x").After(time.Minute)
	_, err = in.Fetch(t.Context(), "p", "AAPL")
	require.Equal(t, spent, err)
	require.Equal(t, 1, called)
	spent = fault.New(fault.Unavailable, "storage_unavailable", "x")
	_, err = in.Fetch(t.Context(), "p", "AAPL")
	require.Equal(t, spent, err)
	require.Equal(t, 1, called)
	_, err = in.Fetch(t.Context(), "nobody", "AAPL")
	require.Equal(t, "unknown_provider", fault.CodeOf(err))
	require.Equal(t, []string{"p", "p", "p"}, asked, "an unknown provider spends nothing")
}

package backfill

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

// due is a store whose series are all due once, and an ingester with a budget of one call, which takes a second.
type due struct {
	Store
	Ingest

	mu      sync.Mutex
	symbols []market.Symbol
	calls   int
	stored  []market.Symbol
	failed  map[market.Symbol]string // codes
}

func (d *due) DueSeries(context.Context) (map[string]int, error) {
	return map[string]int{"alpha_vantage": len(d.symbols)}, nil
}

func (d *due) ClaimSeries(_ context.Context, provider string, _ uuid.UUID) (c Claim, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.symbols) == 0 {
		return c, false, nil
	}
	c = Claim{Series: Series{Symbol: d.symbols[0], Provider: provider, Interval: market.Day}, Now: time.Now()}
	d.symbols = d.symbols[1:]
	return c, true, nil
}

func (d *due) ReserveSpare(context.Context, string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls++; d.calls > 1 {
		return fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "x").After(time.Second)
	}
	return nil
}

func (d *due) FetchBars(
	ctx context.Context, _ string, _ market.Symbol, _ market.Interval, _, _ time.Time,
) (h market.History, r market.Response, err error) {
	select {
	case <-ctx.Done():
		return h, r, fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")
	case <-time.After(time.Second):
		return h, r, nil
	}
}

func (d *due) StoreBars(_ context.Context, b ingest.Bars, _ func(context.Context, pgx.Tx) (uuid.UUID, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stored = append(d.stored, b.Symbol)
	return nil
}

func (d *due) Fail(_ context.Context, c Claim, next Series) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[c.Symbol] = next.LastCode
	return nil
}

func (d *due) Behind(context.Context) (int, error) { return 0, nil }

// The budget is refused to one lane while the call of another is in flight: that call is paid for, and its answer is stored. Otherwise two
// series of a provider with one call a second would cut off each other in every tick.
func TestASpentBudgetLeavesCallsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &due{symbols: []market.Symbol{"IBM", "AAPL", "MSFT"}, failed: map[market.Symbol]string{}}
		r := New(RunnerConfig{Store: d, Ingest: d, Log: slog.New(slog.DiscardHandler), Count: func(string, string, int) {}, Behind: func(int) {}})
		require.NoError(t, r.Run(t.Context(), t.Context()))
		require.Len(t, d.stored, 1)
		require.NotEmpty(t, d.failed)
		for symbol, code := range d.failed {
			require.Equal(t, fault.CodeProviderRateLimited, code, "%s is not cut off", symbol)
		}
	})
}

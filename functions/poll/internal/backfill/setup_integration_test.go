//go:build integration

package backfill_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

const provider = "yfinance"

// broker keeps the points of what is published, as compute-ma does: of several events of a point, the greatest rank counts.
type broker struct {
	mu     sync.Mutex
	points map[market.Symbol]map[time.Time]priceevent.Observation
	events int
	down   bool
}

func (b *broker) Produce(_ context.Context, r kafkaclient.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return context.DeadlineExceeded
	}
	o, err := priceevent.Decode(r.Value, 0, time.Now())
	if err != nil {
		return err
	}
	b.events++
	if b.points[o.Symbol] == nil {
		b.points[o.Symbol] = map[time.Time]priceevent.Observation{}
	}
	if old, ok := b.points[o.Symbol][o.ObservedAt]; !ok || o.CompareRank(old) > 0 {
		b.points[o.Symbol][o.ObservedAt] = o
	}
	return nil
}

// bundle is a replica with a market.
type bundle struct {
	polltest.Tables
	market *polltest.Market
	broker *broker
	budget *budget
	store  *store.Store
	ingest *ingest.Ingester
	*backfill.Runner
}

// budget answers with an error if it has one.
type budget struct{ spent func() error }

func (b *budget) Take(context.Context, string) error { return nil }

func (b *budget) TakeSpare(context.Context, string) error {
	if b.spent == nil {
		return nil
	}
	return b.spent()
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{
		Tables: polltest.NewTables(t), market: &polltest.Market{Called: provider}, budget: &budget{},
		broker: &broker{points: map[market.Symbol]map[time.Time]priceevent.Observation{}},
	}
	b.market.Set(time.Now())
	b.store = store.New(b.Pool)
	b.ingest, b.Runner = b.replica(t, b.broker)
	return b
}

// replica returns another replica's parts, on the same database and market.
func (b *bundle) replica(t *testing.T, p ingest.Publisher) (*ingest.Ingester, *backfill.Runner) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	in := ingest.New(b.Pool, p, "price-events", map[string]market.Provider{b.market.Called: b.market}, log).Within(b.budget)
	t.Cleanup(in.Close)
	return in, backfill.New(backfill.RunnerConfig{
		Store: b.store, Ingest: in, Log: log, Count: func(string, string, int) {}, Behind: func(int) {},
	})
}

// create makes a backfill of daily bars; a zero end follows.
func (b *bundle) create(t *testing.T, start, end time.Time, symbols ...market.Symbol) string {
	t.Helper()
	c := backfill.Config{Symbols: symbols, Provider: b.market.Called, Interval: market.Day, Start: start}
	if !end.IsZero() {
		c.End = &end
	}
	id, err := b.store.CreateBackfill(t.Context(), c, "", "")
	require.NoError(t, err)
	return id
}

// tick runs what is due, and waits until its events are published.
func (b *bundle) tick(t *testing.T) {
	t.Helper()
	require.NoError(t, b.Run(t.Context(), t.Context()))
	require.Eventually(t, func() bool { return b.Count(t, "select count(*) from outbox") == 0 }, 10*time.Second, time.Millisecond)
}

// later makes everything due, as if a day had passed.
func (b *bundle) later(t *testing.T) {
	t.Helper()
	b.Exec(t, "update backfill_series set not_before = now(), check_at = now() where check_at is not null")
	b.Exec(t, "update backfill_series set not_before = now()")
}

// soon makes everything due but the daily checks.
func (b *bundle) soon(t *testing.T) {
	t.Helper()
	b.Exec(t, "update backfill_series set not_before = now()")
}

func (b *bundle) series(t *testing.T, id string) backfill.Series {
	t.Helper()
	_, all, err := b.store.Backfill(t.Context(), id)
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all[0]
}

// closes returns the prices of a symbol's points, from a day on, by date.
func (b *bundle) closes(symbol market.Symbol, from time.Time) map[string]string {
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	all := map[string]string{}
	for at, o := range b.broker.points[symbol] {
		if !at.Before(from) {
			all[at.Format(time.DateOnly)] = o.Price.String()
		}
	}
	return all
}

// mixed reports whether compute-ma would call the points of the symbol adjusting.
func (b *bundle) mixed(t *testing.T, symbol market.Symbol) bool {
	t.Helper()
	var since *string
	var adjusting bool
	const q = "select since::text, adjusting from bar_series where symbol = $1 and provider = 'yfinance-1d'"
	require.NoError(t, b.Pool.QueryRow(t.Context(), q, string(symbol)).Scan(&since, &adjusting))
	if since == nil {
		return false
	}
	b.broker.mu.Lock()
	defer b.broker.mu.Unlock()
	first := priceevent.Observation{RawResponseID: uuid.MustParse(*since)}
	for _, o := range b.broker.points[symbol] {
		if o.CompareRank(first) < 0 {
			return true
		}
	}
	return adjusting
}

//go:build integration

package schedule_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/market"
)

// bundle is a replica's ticker on the real store.
type bundle struct {
	polltest.Tables
	store  *store.Store
	ingest *polltest.Ingest
	tick   *schedule.Ticker
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{Tables: polltest.NewTables(t), ingest: &polltest.Ingest{}}
	b.store = store.New(b.Pool)
	b.tick = b.replica()
	return b
}

// replica returns another replica's ticker on the same database and providers.
func (b bundle) replica() *schedule.Ticker {
	return schedule.New(schedule.Config{
		Store: b.store, Outbox: b.ingest, Fetcher: b.fetcher(), Log: slog.New(slog.DiscardHandler),
		Fresh: time.Minute, RawRetention: 48 * time.Hour, RunsRetention: 24 * time.Hour,
		Recorded: func(int) {}, Swept: func(int) {},
	})
}

func (b bundle) fetcher() *fetch.Fetcher {
	return fetch.New(fetch.Config{
		Budget: b.ingest, Ingest: b.ingest, Cache: polltest.NoCache{}, Chain: []string{"yfinance", "slow"}, Log: slog.New(slog.DiscardHandler),
		Count: func(string, jobs.Outcome) {},
	})
}

// create makes a job with an interval in seconds.
func (b bundle) create(t *testing.T, provider string, interval int, symbols ...market.Symbol) string {
	t.Helper()
	id, err := b.store.Create(t.Context(), jobs.Config{Symbols: symbols, Interval: interval, Provider: provider}, "", "")
	require.NoError(t, err)
	return id
}

func (b bundle) job(t *testing.T, id string) jobs.Job {
	t.Helper()
	j, _, err := b.store.Job(t.Context(), id)
	require.NoError(t, err)
	return j
}

func (b bundle) results(t *testing.T, id string) []jobs.LastResult {
	t.Helper()
	_, results, err := b.store.Job(t.Context(), id)
	require.NoError(t, err)
	return results
}

func (b bundle) outcomes(t *testing.T, id string) map[market.Symbol]jobs.Outcome {
	t.Helper()
	all := map[market.Symbol]jobs.Outcome{}
	for _, r := range b.results(t, id) {
		all[r.Symbol] = r.Outcome
	}
	return all
}

// age makes jobs of a minute due again, for another period. Gates are open again: they are closed for a minute at most.
func (b bundle) age(t *testing.T) {
	t.Helper()
	b.tick.Fetcher = b.fetcher()
	b.Age(t)
}

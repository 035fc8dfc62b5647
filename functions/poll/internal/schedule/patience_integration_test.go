//go:build integration

package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A symbol that the provider does not know is asked for after 1, 2, 4 and 8 periods, whichever replica runs the job; the job's other symbols
// keep their period. Once it is known it has its period again.
func TestAnUnknownSymbolIsAskedForRarely(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, "yfinance", 60, "A", "NEW")
	known := false
	asked := map[market.Symbol]int{}
	b.ingest.Answer = func(_ context.Context, _ string, s market.Symbol) error {
		b.ingest.Lock()
		defer b.ingest.Unlock()
		asked[s]++
		if s == "NEW" && !known {
			return fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
		}
		return nil
	}
	var periods []int
	run := func(period int) {
		before := asked["NEW"]
		require.NoError(t, b.replica().Run(t.Context()))
		require.Equal(t, period+1, b.Runs(t, id))
		require.Equal(t, period+1, asked["A"])
		if asked["NEW"] > before {
			periods = append(periods, period)
		}
		b.Age(t)
	}
	for period := range 17 {
		run(period)
		want := jobs.Outcome(fault.CodeSymbolNotFound)
		require.Equal(t, map[market.Symbol]jobs.Outcome{"A": jobs.OK, "NEW": want}, b.outcomes(t, id))
		require.Equal(t, []bool{false, true}, []bool{b.results(t, id)[0].AskAt != nil, b.results(t, id)[1].AskAt != nil})
	}
	require.Equal(t, []int{0, 1, 3, 7, 15}, periods)
	known = true
	// A new job finds out at once. The other follows.
	b.create(t, "yfinance", 60, "NEW")
	for period := 17; period < 20; period++ {
		run(period)
	}
	require.Equal(t, []int{0, 1, 3, 7, 15, 17, 18, 19}, periods)
	require.Equal(t, jobs.OK, b.outcomes(t, id)["NEW"])
	require.Nil(t, b.results(t, id)[1].AskAt)
	require.Zero(t, b.Count(t, "select unknown from polling_series where symbol = 'NEW'"))
}

// Waits of an unknown symbol end at a day. An outage in between does not begin them anew.
func TestAnUnknownSymbolIsAskedForOnceADay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "yfinance", 60, "BAD")
	require.NoError(t, b.tick.Run(t.Context()))
	b.Exec(t, "update polling_series set unknown = 15, ask_at = planned")
	b.age(t)
	b.weather(map[string]error{"yfinance": errAway})
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 15, b.Count(t, "select unknown from polling_series"))
	b.ingest.Answer = nil
	b.age(t)
	b.ProbesAreDue(t)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, 16, b.Count(t, "select unknown from polling_series"))
	require.Equal(t, 86400, b.Count(t, "select extract(epoch from ask_at - planned)::int from polling_series"))
}

// A job whose symbols have all failed for a day is paused. One with a symbol that succeeds is not. Resuming tries at once, though the period
// has had its run.
func TestAJobThatFailsForADayIsPaused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, mixed := b.create(t, "yfinance", 60, "BAD"), b.create(t, "yfinance", 60, "A", "BAD")
	require.NoError(t, b.tick.Run(t.Context()))
	b.FailedForADay(t)
	require.Equal(t, jobs.Active, b.job(t, id).Status, "ticks were away; the job gets another try")
	b.age(t)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, jobs.Paused, b.job(t, id).Status)
	require.Equal(t, jobs.Outcome(fault.CodeSymbolNotFound), b.job(t, id).PausedCode)
	require.Equal(t, jobs.Active, b.job(t, mixed).Status)
	n, err := b.store.Paused(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 2, b.Runs(t, id))

	require.NoError(t, b.store.SetStatus(t.Context(), id, jobs.Paused))
	require.NotEmpty(t, b.job(t, id).PausedCode, "the reason stays")
	calls := b.ingest.Calls["yfinance BAD"]
	require.NoError(t, b.store.SetStatus(t.Context(), id, jobs.Active))
	require.Empty(t, b.job(t, id).PausedCode)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, calls+1, b.ingest.Calls["yfinance BAD"])
	require.Equal(t, 2, b.Runs(t, id), "a period has one run")
	require.EqualValues(t, 2, b.job(t, id).Runs)
	require.Equal(t, jobs.Active, b.job(t, id).Status, "it has another day")
	require.True(t, b.job(t, id).NextRunAt.After(time.Now()))
}

// Jobs that wait for a provider are paused, too, but only when another attempt has failed. Resuming makes the attempt due.
func TestAJobThatWaitsForADayIsPaused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := []string{b.create(t, "yfinance", 60, "A", "B"), b.create(t, "yfinance", 60, "C", "D"), b.create(t, jobs.Auto, 60, "E")}
	other := b.create(t, "slow", 60, "A")
	w := b.weather(map[string]error{"yfinance": errAway})
	b.tick.Fetcher.Chain = []string{"yfinance"}
	run := func() {
		t.Helper()
		require.NoError(t, b.tick.Run(t.Context()))
	}
	run()
	b.Age(t)
	b.FailedForADay(t)
	b.Exec(t, "update provider_backoffs set failed_at = failed_at - interval '1 hour'")
	run()
	for _, id := range ids {
		require.Equal(t, jobs.Active, b.job(t, id).Status)
	}
	b.ProbesAreDue(t)
	run()
	for _, id := range ids {
		require.Equal(t, jobs.Paused, b.job(t, id).Status)
		require.Equal(t, jobs.Outcome(fault.CodeProviderUnavailable), b.job(t, id).PausedCode)
	}
	require.Equal(t, jobs.Active, b.job(t, other).Status)
	w.change(nil)
	require.NoError(t, b.store.SetStatus(t.Context(), ids[1], jobs.Active))
	w.asked()
	b.tick = b.replica()
	b.tick.Fetcher.Chain = []string{"yfinance"}
	run()
	require.Equal(t, 2, w.asked()["yfinance"])
	require.Zero(t, b.backoff(t, "yfinance"))
	require.Equal(t, jobs.OK, b.outcomes(t, ids[1])["C"])
	require.Equal(t, jobs.Paused, b.job(t, ids[0]).Status)
}

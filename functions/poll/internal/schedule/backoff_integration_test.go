//go:build integration

package schedule_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// weather says which providers are away, and counts calls whether they are answered or not.
type weather struct {
	sync.Mutex
	away  map[string]error // by provider
	calls map[string]int   // by provider
}

func (b bundle) weather(away map[string]error) *weather {
	w := &weather{away: away, calls: map[string]int{}}
	b.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
		w.Lock()
		defer w.Unlock()
		w.calls[provider]++
		return w.away[provider]
	}
	return w
}

// asked returns the calls since it was called last.
func (w *weather) asked() map[string]int {
	w.Lock()
	defer w.Unlock()
	calls := w.calls
	w.calls = map[string]int{}
	return calls
}

func (w *weather) change(away map[string]error) {
	w.Lock()
	defer w.Unlock()
	w.away = away
}

var errAway = fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "x")

func (b bundle) backoff(t *testing.T, provider string) jobs.Backoff {
	t.Helper()
	off, err := b.store.Backoffs(t.Context())
	require.NoError(t, err)
	return off[provider]
}

// A provider that is away is left alone. Its jobs record nothing meanwhile, other jobs run on, and once it answers everything runs.
func TestAnOutageBacksOffItsProviderAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var logs bytes.Buffer
	b.tick.Log = slog.New(slog.NewTextHandler(&logs, nil))
	waits := []string{b.create(t, "yfinance", 60, "A", "B", "C"), b.create(t, "yfinance", 60, "D")}
	other := b.create(t, "slow", 60, "A")
	w := b.weather(map[string]error{"yfinance": errAway})
	tick := func() {
		t.Helper()
		b.age(t)
		require.NoError(t, b.tick.Run(t.Context()))
	}
	tick()
	require.Equal(t, map[string]int{"yfinance": 4, "slow": 1}, w.asked())
	require.Equal(t, jobs.Outcome(fault.CodeProviderUnavailable), b.backoff(t, "yfinance").Code)
	require.Zero(t, b.backoff(t, "slow"))
	runs := []int{b.Runs(t, waits[0]), b.Runs(t, waits[1])}
	require.Equal(t, []int{1, 1}, runs, "they were asked for, and failed")

	for i := range 3 {
		tick()
		require.Equal(t, map[string]int{"slow": 1}, w.asked())
		require.Equal(t, 2+i, b.Runs(t, other))
	}
	b.ProbesAreDue(t)
	tick()
	require.Equal(t, map[string]int{"yfinance": 1, "slow": 1}, w.asked(), "a probe")
	tick()
	require.Equal(t, map[string]int{"slow": 1}, w.asked())
	require.LessOrEqual(t, b.Count(t, "select count(*) from polling_runs r join polling_jobs j on j.id = r.job_id where provider = 'yfinance'"), 3,
		"only a probe of a job of one symbol is a run")

	w.change(nil)
	before := b.Runs(t, waits[0])
	b.ProbesAreDue(t)
	tick()
	require.Equal(t, map[string]int{"yfinance": 4, "slow": 1}, w.asked(), "the probe serves its series")
	require.Equal(t, before+1, b.Runs(t, waits[0]), "missed periods run once")
	require.Zero(t, b.backoff(t, "yfinance"))
	require.Zero(t, b.Count(t, "select count(*) from polling_jobs where lease_token is not null or failing_since is not null"))
	require.Equal(t, 1, strings.Count(logs.String(), "provider backed off"), logs.String())
	require.Equal(t, 1, strings.Count(logs.String(), "provider answers again"), logs.String())
	require.Zero(t, b.Count(t, "select sum(runs) - (select count(*) from polling_runs) from polling_jobs"))
}

// Waits double up to a quarter of an hour, up to a fifth is left off, and the provider's own wait counts if it is longer.
func TestWaitsOfABackoff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away  error
		waits []time.Duration
	}{
		"errors":                   {errAway, []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 900, 900}},
		"longer than it asked for": {errAway.After(12 * time.Second), []time.Duration{15, 15, 20, 40}},
		"the provider's limit":     {polltest.Limited(time.Hour), []time.Duration{3600, 3600}},
		"a limit of three days":    {polltest.Limited(72 * time.Hour), []time.Duration{24 * 3600}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create(t, "yfinance", 60, "A")
			b.weather(map[string]error{"yfinance": c.away})
			for i, want := range c.waits {
				want *= time.Second
				b.ProbesAreDue(t)
				b.age(t)
				require.NoError(t, b.tick.Run(t.Context()))
				off := b.backoff(t, "yfinance")
				wait := off.Until.Sub(off.Failed)
				require.LessOrEqual(t, wait, want, "attempt %d", i)
				require.GreaterOrEqual(t, wait, want*8/10, "attempt %d", i)
			}
		})
	}
}

// However many replicas tick, one of them makes one call to a provider that is backed off.
func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.ManyJobs(t, 200, 50, "yfinance", 60)
	w := b.weather(map[string]error{"yfinance": errAway})
	require.NoError(t, b.tick.Run(t.Context()))
	w.asked()
	for range 3 {
		b.age(t)
		b.ProbesAreDue(t)
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			replica := b.replica()
			wg.Go(func() { errs[i] = replica.Run(context.Background()) })
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.Equal(t, map[string]int{"yfinance": 1}, w.asked())
	}
	w.change(nil)
	b.age(t)
	b.ProbesAreDue(t)
	require.NoError(t, b.tick.Run(t.Context()))
	require.Equal(t, map[string]int{"yfinance": 50}, w.asked())
	require.Zero(t, b.Count(t, "select count(*) from polling_jobs where next_run_at <= now()"))
}

// A replica dies during its probe. Another one probes once the time for that is over, not before.
func TestAProbeOfADeadReplica(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "yfinance", 60, "A", "B")
	w := b.weather(map[string]error{"yfinance": errAway})
	require.NoError(t, b.tick.Run(t.Context()))
	b.age(t)
	b.ProbesAreDue(t)
	taken, err := b.store.Probe(t.Context(), "yfinance")
	require.NoError(t, err)
	require.True(t, taken)
	w.asked()
	require.NoError(t, b.replica().Run(t.Context()))
	require.Empty(t, w.asked())
	b.Exec(t, "update provider_backoffs set probe_expires_at = now()")
	require.NoError(t, b.replica().Run(t.Context()))
	require.Equal(t, map[string]int{"yfinance": 1}, w.asked())
	require.Equal(t, 2, b.Count(t, "select failures from provider_backoffs"))
}

// A provider may fail for one symbol alone. The others are answered, so it is not away; if it was backed off for that symbol, a probe for
// another job finds out.
func TestOneBadSymbolIsNoOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bad, good := b.create(t, "yfinance", 60, "NOGOOD"), b.create(t, "yfinance", 60, "A")
	b.ingest.Answer = func(_ context.Context, _ string, s market.Symbol) error {
		if s == "NOGOOD" {
			return errAway
		}
		return nil
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Zero(t, b.backoff(t, "yfinance"))
	b.Exec(t, "update polling_jobs set next_run_at = now() where id = $1", bad)
	b.Exec(t, "update polling_series set attempted_at = attempted_at - interval '1 hour'")
	require.NoError(t, b.tick.Run(t.Context()))
	require.NotZero(t, b.backoff(t, "yfinance"), "nothing else was asked for")
	b.age(t)
	for range 2 {
		b.ProbesAreDue(t)
		require.NoError(t, b.tick.Run(t.Context()))
	}
	require.Zero(t, b.backoff(t, "yfinance"))
	require.Equal(t, 2, b.Runs(t, good))
}

// A tick that ends, and a function that is told to stop, cut calls off. That is no outage.
func TestACallThatIsCutOffIsNoOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "yfinance", 60, polltest.Symbols(fetch.Slots)...)
	stopping := make(chan struct{})
	b.tick.Stopping = stopping
	var once sync.Once
	b.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error {
		once.Do(func() { close(stopping) })
		<-ctx.Done()
		return errAway
	}
	require.NoError(t, b.tick.Run(t.Context()))
	require.Zero(t, b.backoff(t, "yfinance"))
}

// Auto leaves providers out that are backed off, and probes them. It waits only if none is left.
func TestAutoGoesAroundAnOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, jobs.Auto, 60, polltest.Symbols(20)...)
	w := b.weather(map[string]error{"yfinance": errAway})
	tick := func() {
		t.Helper()
		require.NoError(t, b.tick.Run(t.Context()))
		b.age(t)
	}
	tick()
	require.Equal(t, map[string]int{"yfinance": 20, "slow": 20}, w.asked())
	tick()
	require.Equal(t, map[string]int{"slow": 20}, w.asked())
	require.Equal(t, 2, b.Runs(t, id))
	b.ProbesAreDue(t)
	tick()
	require.Equal(t, map[string]int{"yfinance": 1, "slow": 20}, w.asked())

	w.change(map[string]error{"yfinance": errAway, "slow": errAway})
	tick()
	require.Equal(t, map[string]int{"slow": 20}, w.asked())
	require.Equal(t, 4, b.Runs(t, id))
	tick()
	require.Empty(t, w.asked())
	require.Equal(t, 4, b.Runs(t, id))
	require.NotNil(t, jobs.BackoffOf(jobs.Auto, b.tick.Fetcher.Chain, map[string]jobs.Backoff{
		"yfinance": b.backoff(t, "yfinance"), "slow": b.backoff(t, "slow"),
	}))
	b.Exec(t, "update provider_backoffs set until_at = now() where provider = 'slow'")
	tick()
	require.Equal(t, map[string]int{"slow": 1}, w.asked(), "a probe")
	require.Equal(t, 4, b.Runs(t, id))
	w.change(map[string]error{"yfinance": errAway})
	b.Exec(t, "update provider_backoffs set until_at = now() where provider = 'slow'")
	tick()
	require.Equal(t, map[string]int{"slow": 20}, w.asked())
	require.Equal(t, 5, b.Runs(t, id))
	w.change(nil)
	b.ProbesAreDue(t)
	tick()
	tick()
	require.Zero(t, b.backoff(t, "yfinance"))
}

//go:build integration

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/testenv"
)

// A job says why it waits, and until when; one that is paused says why, and has no next run.
func TestAJobSaysWhyItWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	waits := b.create(t, `{"symbols":["AAPL","MSFT"]}`)
	others := []string{b.create(t, `{"symbols":["AAPL"],"provider":"finnhub"}`), b.create(t, `{"symbols":["AAPL"],"provider":"auto"}`)}
	var healthy atomic.Bool
	b.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
		if provider == "yfinance" && !healthy.Load() {
			return fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x")
		}
		return nil
	}
	calm := func(v jobBody) {
		t.Helper()
		require.Nil(t, v.BackoffUntil)
		require.Nil(t, v.Reason)
		require.NotNil(t, v.NextRunAt)
	}
	calm(b.show(t, waits))
	require.Contains(t, b.do(http.MethodGet, "/prices/poll/"+waits, "").Body.String(), `"backoff_until":null,"reason":null`)
	require.NoError(t, b.tick.Run(t.Context()))
	v := b.show(t, waits)
	require.Equal(t, "active", v.Status)
	require.True(t, v.BackoffUntil.After(v.CreatedAt))
	require.Equal(t, "provider_timeout: yfinance does not answer in time", *v.Reason)
	require.NotNil(t, v.NextRunAt)
	for _, id := range others {
		calm(b.show(t, id))
	}
	var list struct{ Jobs []jobBody }
	require.NoError(t, json.Unmarshal(b.do(http.MethodGet, "/prices/poll", "").Body.Bytes(), &list))
	require.NotNil(t, list.Jobs[0].BackoffUntil)
	require.Nil(t, list.Jobs[1].BackoffUntil)

	b.Age(t)
	b.FailedForADay(t)
	b.Exec(t, "update provider_backoffs set failed_at = failed_at - interval '1 hour', until_at = now()")
	require.NoError(t, b.tick.Run(t.Context()))
	v = b.show(t, waits)
	require.Equal(t, "paused", v.Status)
	require.Nil(t, v.NextRunAt)
	require.Nil(t, v.BackoffUntil)
	require.Equal(t, "provider_timeout: every symbol failed for 24 hours; resume the job to try again", *v.Reason)
	for _, id := range others {
		calm(b.show(t, id))
	}
	healthy.Store(true)
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+waits+"/resume", "").Code)
	require.NoError(t, b.tick.Run(t.Context()))
	v = b.show(t, waits)
	calm(v)
	require.Nil(t, v.Results[0].Code)

	require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+waits+"/pause", "").Code)
	v = b.show(t, waits)
	require.Nil(t, v.NextRunAt)
	require.Nil(t, v.Reason, "its user knows")
	require.Contains(t, b.do(http.MethodGet, "/prices/poll/"+waits, "").Body.String(), `"next_run_at":null`)
}

func TestAResultSaysWhenAnUnknownSymbolIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL","BAD"]}`)
	for range 2 {
		require.NoError(t, b.tick.Run(t.Context()))
		b.Age(t)
	}
	results := b.show(t, id).Results
	require.Nil(t, results[0].AskAt)
	require.Equal(t, "symbol_not_found", *results[1].Code)
	planned := b.show(t, id).CreatedAt.Add(time.Minute) // its second period
	require.Less(t, results[1].AskAt.Sub(planned.Add(2*time.Minute)).Abs(), time.Second)
}

// A back-off outlives replicas: one that is killed after a failure, and one that is killed during a probe.
func TestABackoffSurvivesItsReplicas(t *testing.T) {
	t.Parallel()
	b := polltest.NewTables(t)
	var calls atomic.Int32
	called, stall := make(chan struct{}, 1000), make(chan struct{})
	var status atomic.Int32
	status.Store(http.StatusInternalServerError)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		called <- struct{}{}
		if status.Load() == 0 {
			select {
			case <-stall:
			case <-r.Context().Done():
			}
			return
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stall) })
	redis, _ := testenv.Redis(t)
	brokers := testenv.Kafka(t)
	topics := testenv.Topics(t, brokers)
	start := func() *process {
		return startProcess(t, append(append(brokers.Environ(), topics.Environ()...), "DATABASE_URL="+b.Pool.Config().ConnString(),
			"REDIS_URL=redis://"+redis.Options().Addr, "YFINANCE_BASE_URL="+server.URL)...)
	}
	b.ManyJobs(t, 20, 10, "yfinance", 60)
	first := start()
	require.Equal(t, http.StatusNoContent, first.tick())
	require.EqualValues(t, 10, calls.Swap(0))
	require.Equal(t, 20, b.Count(t, "select count(*) from polling_runs"))
	require.NoError(t, first.cmd.Process.Kill())
	for len(called) > 0 {
		<-called
	}

	second := start()
	b.Age(t)
	require.Equal(t, http.StatusNoContent, second.tick())
	require.Zero(t, calls.Load())
	status.Store(0)
	b.ProbesAreDue(t)
	go second.tick()
	<-called
	require.NoError(t, second.cmd.Process.Kill())
	require.EqualValues(t, 1, calls.Swap(0))

	third := start()
	status.Store(http.StatusServiceUnavailable)
	require.Equal(t, http.StatusNoContent, third.tick())
	require.Zero(t, calls.Load(), "the probe is still the other's")
	b.Exec(t, "update provider_backoffs set probe_expires_at = now()")
	for _, table := range []string{"polling_jobs", "polling_series"} {
		b.Exec(t, "update "+table+" set lease_expires_at = lease_expires_at - $1::interval", schedule.Lease)
	}
	require.Equal(t, http.StatusNoContent, third.tick())
	require.EqualValues(t, 1, calls.Load())
	require.Equal(t, 2, b.Count(t, "select failures from provider_backoffs"))
	require.LessOrEqual(t, b.Count(t, "select count(*) from polling_runs"), 21)
	require.Zero(t, b.Count(t, "select sum(runs) - (select count(*) from polling_runs) from polling_jobs"))
}

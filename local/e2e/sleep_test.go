//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/health"
	"marketdata/local/serving"
	"marketdata/shared/testenv"
)

// Events and requests come in bursts, between which the functions sleep. Each is answered or applied.
func TestFunctionsSleepAndWake(t *testing.T) {
	t.Parallel()
	bursts := testenv.Size(t, "E2E_BURSTS", 5)
	const events, requests = 5000, 1000
	s := start(t, newDir(t), "SCALE_TO_ZERO=1s")
	messages, averages, poison := backlog(rand.New(rand.NewPCG(1, 1)), events)

	var mu sync.Mutex
	var waits []time.Duration
	client := 0
	for burst := range slices.Chunk(messages, len(messages)/bursts+1) {
		s.asleep(t, "get-latest", "compute-ma")
		s.produce(t, burst...)
		var senders sync.WaitGroup
		for range requests / bursts {
			client++
			address := fmt.Sprintf("10.0.%d.%d", client/250, client%250)
			senders.Go(func() {
				began := time.Now()
				status, body, header := call(t, http.MethodGet, s.env["GET_LATEST_URL"]+"/prices/latest?symbol=AAPL&provider=yfinance", "", "X-Forwarded-For", address)
				if status != http.StatusOK {
					t.Errorf("status %d: %s", status, body)
				}
				if header.Get("Server-Timing") != "" {
					mu.Lock()
					defer mu.Unlock()
					waits = append(waits, time.Since(began))
				}
			})
		}
		senders.Wait()
	}
	require.Eventually(t, func() bool {
		done := s.rows(t, "select (select count(*) from price_points where symbol like 'B%')::text || ' ' || (select count(*) from dead_letters)")
		return done[0] == fmt.Sprint(events, " ", len(poison))
	}, 60*time.Second, 100*time.Millisecond)
	require.Equal(t, averages, s.rows(t, `
		select format('%s %s %s', symbol, window_size, trim_scale(average))
		from symbol_averages where symbol like 'B%' order by symbol collate "C", window_size`))

	require.NotEmpty(t, waits)
	slices.Sort(waits)
	t.Logf("%d requests waited for a cold start: p50 %v, p99 %v", len(waits), waits[len(waits)/2], waits[len(waits)*99/100])
	s.asleep(t, "get-latest", "compute-ma", "poll", "dlq-inspector")
	for name, f := range s.functions(t) {
		t.Logf("%s: %d cold starts, p50 %v ms, p99 %v ms", name, f.ColdStarts, f.P50, f.P99)
		require.Greater(t, f.ColdStarts, 1, name)
	}
}

func (s *stack) functions(t *testing.T) map[string]serving.Status {
	t.Helper()
	_, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/page/health", "")
	var report health.Report
	require.NoError(t, json.Unmarshal(body, &report))
	named := map[string]serving.Status{}
	for _, f := range report.Functions {
		named[f.Function] = *f.Scale
	}
	return named
}

// asleep returns once each of the functions has slept.
func (s *stack) asleep(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.Eventually(t, func() bool { return s.functions(t)[name].Replicas == 0 }, 20*time.Second, 20*time.Millisecond, name)
	}
}

package testenv

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Program is a server under load, for benchmarks that run several in turn, round by round, so that what drifts on the
// machine drops out of their ratios.
type Program struct {
	URL     string    // with a trailing slash
	Rates   []float64 // answers a second, of each round
	Medians []float64 // milliseconds
	Tails   []float64 // 99th percentile, milliseconds
}

// StartProgram runs a command on a free port of loopback (HOST, PORT) until the benchmark ends, its log in a file, and
// returns once /readyz answers. It must end with 0 at SIGTERM.
func StartProgram(tb testing.TB, name, path string, env ...string) *Program {
	tb.Helper()
	port := FreePort(tb)
	log, err := os.Create(filepath.Join(tb.TempDir(), name+".log")) //nolint:gosec // in the benchmark's own folder
	require.NoError(tb, err)
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), path)
	cmd.Env = append(append(os.Environ(), "HOST=127.0.0.1", fmt.Sprint("PORT=", port)), env...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		require.NoError(tb, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(tb, cmd.Wait())
		require.NoError(tb, log.Close())
	})
	p := &Program{URL: fmt.Sprintf("http://127.0.0.1:%d/", port)}
	require.Eventually(tb, func() bool {
		req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, p.URL+"readyz", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode < 300
	}, 10*time.Second, 5*time.Millisecond)
	return p
}

// Load calls one from so many callers for the time of a round, and notes the rate and the time of a call.
func (p *Program) Load(tb testing.TB, callers int, round time.Duration, one func() error) {
	tb.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	began := time.Now()
	for range callers {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(began) < round {
				start := time.Now()
				if err := one(); err != nil {
					failed <- err
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	took := time.Since(began)
	close(failed)
	for err := range failed {
		require.NoError(tb, err)
	}
	slices.Sort(all)
	p.Rates = append(p.Rates, float64(len(all))/took.Seconds())
	p.Medians = append(p.Medians, all[len(all)/2].Seconds()*1000)
	p.Tails = append(p.Tails, all[len(all)*99/100].Seconds()*1000)
}

// Forget drops the rounds so far: a warm-up.
func (p *Program) Forget() { p.Rates, p.Medians, p.Tails = nil, nil, nil }

// Median of values, the upper one of an even number.
func Median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// Ratio is the median of the rounds' ratios of p's rate to q's.
func Ratio(p, q *Program) float64 {
	all := make([]float64, len(p.Rates))
	for i := range all {
		all[i] = p.Rates[i] / q.Rates[i]
	}
	return Median(all)
}

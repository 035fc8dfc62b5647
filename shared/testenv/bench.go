package testenv

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/wire"
)

// Program is a server under load, for benchmarks that run several in turn, round by round, so that drift of the machine cancels
// out in their ratios.
type Program struct {
	URL     string    // with a trailing slash
	Rates   []float64 // responses per second, of each round
	Medians []float64 // milliseconds
	Tails   []float64 // 99th percentile, milliseconds
}

// StartProgram runs a command on a free loopback port (HOST, PORT) until the benchmark ends, with its log in a file. It returns
// once /readyz succeeds. The command must exit with 0 on SIGTERM.
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

// Load keeps inFlight requests in flight for one round, and records rate and latency of the responses. next returns a request (see
// [wire.Request]) and is called concurrently; check gets status and X-Cache of each response.
func (p *Program) Load(tb testing.TB, inFlight int, round time.Duration, next func(i int) []byte, check func(status int, cache string) error) {
	tb.Helper()
	got, err := wire.Load(tb.Context(), p.URL, inFlight, round, next, check)
	require.NoError(tb, err)
	p.Rates = append(p.Rates, got.Rate)
	p.Medians = append(p.Medians, got.P50.Seconds()*1000)
	p.Tails = append(p.Tails, got.P99.Seconds()*1000)
}

// Forget drops the rounds so far, for a warm-up.
func (p *Program) Forget() { p.Rates, p.Medians, p.Tails = nil, nil, nil }

// Median returns the median of values; of an even number, the upper of the middle two.
func Median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// Ratio returns the median over rounds of the ratio of p's rate to q's.
func Ratio(p, q *Program) float64 {
	all := make([]float64, len(p.Rates))
	for i := range all {
		all[i] = p.Rates[i] / q.Rates[i]
	}
	return Median(all)
}

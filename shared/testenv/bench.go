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

// Load keeps so many requests in flight for the time of a round, and notes the rate and the latency of the answers. next makes one
// request (see [wire.Request]) and is called by several goroutines at once; check sees each answer's status and X-Cache.
func (p *Program) Load(tb testing.TB, inFlight int, round time.Duration, next func(i int) []byte, check func(status int, cache string) error) {
	tb.Helper()
	got, err := wire.Load(tb.Context(), p.URL, inFlight, round, next, check)
	require.NoError(tb, err)
	p.Rates = append(p.Rates, got.Rate)
	p.Medians = append(p.Medians, got.P50.Seconds()*1000)
	p.Tails = append(p.Tails, got.P99.Seconds()*1000)
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

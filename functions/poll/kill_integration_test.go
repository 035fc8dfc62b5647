//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/testenv"
)

// provider is a fake Yahoo that answers slowly and reports each call.
type provider struct {
	mu     sync.Mutex
	calls  map[string]int
	called chan struct{}
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls[r.URL.Path]++
	p.mu.Unlock()
	p.called <- struct{}{}
	time.Sleep(20 * time.Millisecond) // the time that an answer takes: no test waits for this
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"chart":{"error":null,"result":[{"meta":{"regularMarketPrice":1.5,"regularMarketTime":%d}}]}}`, time.Now().Unix())
}

// process is a replica of the built function.
type process struct {
	cmd *exec.Cmd
	url string
	out bytes.Buffer
}

func startProcess(t *testing.T, env ...string) *process {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' has put the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test', which builds the binaries first")
	port := testenv.FreePort(t)
	p := &process{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(bin, "poll")), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	p.cmd.Env = append(append(os.Environ(), "HOST=127.0.0.1", fmt.Sprint("PORT=", port), "YFINANCE_BUDGET=off"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(p.out.String())
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}, 10*time.Second, 2*time.Millisecond)
	return p
}

// tick returns the status, 0 if there was no answer.
func (p *process) tick() int {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.url, strings.NewReader("{}"))
	if err != nil {
		return 0
	}
	req.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/test"}, "Ce-Type": {"dev.knative.sources.ping"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// A replica dies, or hangs and comes back, between claiming and recording. The next tick after its leases have expired takes over, each
// period is recorded once, and a symbol is fetched twice at most.
func TestTakeoverFromADeadOrHungReplica(t *testing.T) {
	t.Parallel()
	b := polltest.NewTables(t)
	yahoo := &provider{calls: map[string]int{}, called: make(chan struct{}, 10_000)}
	server := httptest.NewServer(yahoo)
	t.Cleanup(server.Close)
	redis, _ := testenv.Redis(t)
	brokers := testenv.Kafka(t)
	topics := testenv.Topics(t, brokers)
	start := func() *process {
		return startProcess(t, append(append(brokers.Environ(), topics.Environ()...), "DATABASE_URL="+b.Pool.Config().ConnString(),
			"REDIS_URL=redis://"+redis.Options().Addr, "YFINANCE_BASE_URL="+server.URL)...)
	}
	const jobs, symbols = 200, 40
	b.ManyJobs(t, jobs, symbols, "yfinance", 60)
	survivor := start()
	for round, after := range []int{1, 15, 17, 39, 40} { // calls that the victim makes first
		victim := start()
		answered := make(chan int, 1)
		go func() { answered <- victim.tick() }()
		for range after {
			<-yahoo.called
		}
		hangs := round%2 == 1
		signal := syscall.SIGKILL
		if hangs {
			signal = syscall.SIGSTOP
		}
		require.NoError(t, victim.cmd.Process.Signal(signal))
		for _, table := range []string{"polling_jobs", "polling_series"} { // as if 15 s later
			b.Exec(t, "update "+table+" set lease_expires_at = lease_expires_at - $1::interval", schedule.Lease)
		}
		require.Equal(t, http.StatusNoContent, survivor.tick())
		require.Equal(t, (round+1)*jobs, b.Count(t, "select count(*) from polling_runs"), "round %d", round)
		if hangs {
			require.NoError(t, victim.cmd.Process.Signal(syscall.SIGCONT))
			require.Equal(t, http.StatusNoContent, <-answered)
		}
		require.Equal(t, (round+1)*jobs, b.Count(t, "select count(*) from polling_runs"))
		require.Equal(t, (round+1)*jobs, b.Count(t, "select sum(runs) from polling_jobs"))
		require.Zero(t, b.Count(t, "select count(*) from polling_jobs where lease_token is not null"))
		yahoo.mu.Lock()
		for path, calls := range yahoo.calls {
			require.LessOrEqual(t, calls, 2, path)
		}
		clear(yahoo.calls)
		yahoo.mu.Unlock()
		for len(yahoo.called) > 0 {
			<-yahoo.called
		}
		b.Age(t)
	}
}

//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// fault makes the exchange fail for a symbol; healthy ends all faults.
func (s *stack) fault(t *testing.T, symbol, kind string, count, delayMS int) {
	t.Helper()
	body := fmt.Sprintf(`{"provider":"yfinance","symbol":%q,"kind":%q,"count":%d,"delay_ms":%d}`, symbol, kind, count, delayMS)
	status, answer, _ := call(t, http.MethodPut, s.env["EXCHANGE_URL"]+"/_admin/faults", body)
	require.Less(t, status, 300, string(answer))
}

func (s *stack) healthy(t *testing.T) {
	t.Helper()
	status, _, _ := call(t, http.MethodDelete, s.env["EXCHANGE_URL"]+"/_admin/faults", "")
	require.Less(t, status, 300)
}

// calls returns the number of calls that the exchange has received for a symbol.
func (s *stack) calls(t *testing.T, symbol string) int {
	t.Helper()
	_, body, _ := call(t, http.MethodGet, s.env["EXCHANGE_URL"]+"/_admin/calls?provider=yfinance&symbol="+symbol, "")
	var v struct{ Calls int }
	require.NoError(t, json.Unmarshal(body, &v), string(body))
	return v.Calls
}

// kill kills the replicas of a function with these URLs, as the loss of a node would.
func (s *stack) kill(t *testing.T, function string, urls ...string) {
	t.Helper()
	ports := map[string]bool{}
	for _, text := range urls {
		u, err := url.Parse(text)
		require.NoError(t, err)
		ports["PORT="+u.Port()] = true
	}
	killed := 0
	for _, pid := range s.pids(t, function) {
		environ, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "environ"))
		require.NoError(t, err)
		for _, v := range strings.Split(string(environ), "\x00") {
			if ports[v] {
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
				killed++
			}
		}
	}
	require.Equal(t, len(urls), killed)
}

// function runs another replica of a function until the test ends, and returns its URL.
func (s *stack) function(t *testing.T, name string, env ...string) string {
	t.Helper()
	port := testenv.FreePort(t)
	cmd := exec.Command(filepath.Join(s.dir, "bin", name))
	cmd.Env = append(slices.Concat(ownEnviron(), s.kafka().Environ(), s.topics().Environ()), "HOST=127.0.0.1", fmt.Sprint("PORT=", port),
		"YFINANCE_BASE_URL="+s.env["EXCHANGE_URL"]+"/yfinance", "DATABASE_URL="+s.env["DATABASE_URL"], "REDIS_URL="+s.env["REDIS_URL"])
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
	})
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// ready waits until replicas are ready.
func ready(t *testing.T, urls ...string) {
	t.Helper()
	client := &http.Client{Timeout: 3 * time.Second}
	for _, u := range urls {
		require.Eventually(t, func() bool {
			resp, err := client.Get(u + "/readyz")
			if err != nil {
				return false
			}
			return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
		}, 20*time.Second, 20*time.Millisecond)
	}
}

// proxy forwards TCP connections. While it holds them, no byte passes and no connection fails.
type proxy struct {
	addr string
	mu   sync.Mutex
	gate chan struct{} // closed while traffic may pass
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: l.Addr().String(), gate: make(chan struct{})}
	close(p.gate)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		p.release()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go p.pipe(client, server)
			go p.pipe(server, client)
		}
	}()
	return p
}

func (p *proxy) pipe(to, from net.Conn) {
	defer to.Close()   //nolint:errcheck // the other end is gone
	defer from.Close() //nolint:errcheck // the other end is gone
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		gate := p.gate
		p.mu.Unlock()
		<-gate
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

//go:build integration

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/testenv"
)

const starts = 99 // of each program, alternating; the figures are medians

// firstAnswer runs a program and returns the time from exec to its first answer, in milliseconds. It tries to connect every
// 50 µs, and writes the request to the bare connection: an HTTP client would compete with the program for CPU while it starts.
func firstAnswer(b *testing.B, path string, env ...string) float64 {
	b.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))
	_, port, err := net.SplitHostPort(address)
	require.NoError(b, err)
	cmd := exec.Command(path)
	cmd.Env = append(append(os.Environ(), "HOST=127.0.0.1", "PORT="+port), env...)
	began := time.Now()
	require.NoError(b, cmd.Start())
	conn, err := net.Dial("tcp", address)
	for ; err != nil; conn, err = net.Dial("tcp", address) {
		require.Less(b, time.Since(began), 5*time.Second, "nothing listens: %v", err)
		<-time.After(50 * time.Microsecond)
	}
	_, err = io.WriteString(conn, "GET /prices/latest?symbol="+hitSymbol+"&provider=yfinance HTTP/1.1\r\nHost: "+address+"\r\n\r\n")
	require.NoError(b, err)
	answer := bufio.NewReader(conn)
	_, err = answer.Peek(1)
	took := time.Since(began)
	require.NoError(b, err)
	resp, err := http.ReadResponse(answer, nil)
	require.NoError(b, err)
	require.Equal(b, http.StatusOK, resp.StatusCode)
	require.Contains(b, []string{"", "HIT"}, resp.Header.Get("X-Cache"))
	require.NoError(b, resp.Body.Close())
	require.NoError(b, conn.Close())
	require.NoError(b, cmd.Process.Kill())
	require.Error(b, cmd.Wait(), "killed")
	return took.Seconds() * 1000
}

// BenchmarkFirstHit measures how long a client waits for a cached price after a scale-up from zero: the time from exec to the first
// hit, compared with the first answer of a hello-world server.
func BenchmarkFirstHit(b *testing.B) {
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make bench' puts the binaries
	require.NotEmpty(b, bin, "E2E_BIN_DIR is not set: run 'make bench', which builds the binaries first")
	client, _ := testenv.Redis(b)
	price, err := market.ParsePrice("150.25")
	require.NoError(b, err)
	cache := pricecache.New(client, "price:", time.Hour, time.Hour)
	_, err = cache.Put(b.Context(), market.Quote{Symbol: hitSymbol, Provider: "yfinance", Price: price, ObservedAt: time.Now().UTC()}, uuid.New())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, client.Del(context.Background(), "price:yfinance:"+hitSymbol).Err()) })
	hello := filepath.Join(b.TempDir(), "hello")
	out, err := exec.Command("go", "build", "-o", hello, "./testdata/hello").CombinedOutput()
	require.NoError(b, err, string(out))
	for range b.N {
		var hits, hellos, ratios []float64
		for i := range starts + 1 {
			hit := firstAnswer(b, filepath.Join(bin, "get-latest"), "CACHE_TTL=1h", "STALE_TTL=1h", "RATE_LIMIT_LATEST="+hitLimit, "RATE_LIMIT_TIMEOUT=1s")
			first := firstAnswer(b, hello)
			if i > 0 { // the first round reads the programs from disk
				hits, hellos, ratios = append(hits, hit), append(hellos, first), append(ratios, hit/first)
			}
		}
		b.ReportMetric(testenv.Median(hits), "first_hit_ms")
		b.ReportMetric(testenv.Median(hellos), "hello_ms")
		b.ReportMetric(testenv.Median(ratios), "of_hello")
	}
	b.ReportMetric(0, "ns/op")
}

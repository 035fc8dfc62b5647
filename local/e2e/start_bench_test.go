//go:build integration

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// BenchmarkStart measures how long a scale-up from zero takes: from exec to the first 200 of /healthz, polled every 200 µs.
func BenchmarkStart(b *testing.B) {
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make bench' puts the binaries
	require.NotEmpty(b, bin, "E2E_BIN_DIR is not set: run 'make bench', which builds the binaries first")
	for _, name := range []string{"get-latest", "poll", "compute-ma", "dlq-inspector"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				port := testenv.FreePort(b)
				cmd := exec.Command(filepath.Join(bin, name))
				cmd.Env = append(os.Environ(), fmt.Sprint("PORT=", port), "HOST=127.0.0.1", "DLQ_TOKEN=benchmark")
				b.StartTimer()
				require.NoError(b, cmd.Start())
				for {
					resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
					if err == nil {
						require.NoError(b, resp.Body.Close())
						require.Equal(b, http.StatusOK, resp.StatusCode)
						break
					}
					<-time.After(200 * time.Microsecond)
				}
				b.StopTimer()
				require.NoError(b, cmd.Process.Kill())
				require.Error(b, cmd.Wait(), "killed")
			}
		})
	}
}

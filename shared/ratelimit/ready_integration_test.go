//go:build integration

package ratelimit

import (
	"fmt"
	"log/slog"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/redisclient"
	"marketdata/shared/testenv"
)

// startRedis starts a server of the test's own, and returns its URL.
func startRedis(t *testing.T, args ...string) string {
	t.Helper()
	program := testenv.Installed(t, "redis-server", "redis-server")
	port := strconv.Itoa(testenv.FreePort(t))
	testenv.Run(t, exec.Command(program, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...))
	url := "redis://127.0.0.1:" + port
	client, err := redisclient.Open(url)
	require.NoError(t, err)
	defer client.Close() //nolint:errcheck // only pinged
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	return url
}

// /readyz tells of a Redis that answers but cannot be used.
func TestReadinessOfARedisThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	warm := func(t *testing.T, url string) error {
		t.Helper()
		client, err := redisclient.Open(url)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		limiter := New(client, Config{Timeout: 50 * time.Millisecond, MaxCopies: 1}, slog.New(slog.DiscardHandler))
		t.Cleanup(func() { require.NoError(t, limiter.Close()) })
		return limiter.Warm(t.Context())
	}
	t.Run("primary", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, warm(t, startRedis(t)))
	})
	t.Run("replica", func(t *testing.T) {
		t.Parallel()
		replica := startRedis(t, "--replicaof", "127.0.0.1", strconv.Itoa(testenv.FreePort(t)), "--replica-serve-stale-data", "yes")
		require.Equal(t, fault.CodeReadOnly, fault.CodeOf(warm(t, replica)))
	})
	t.Run("node of a cluster", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, warm(t, startRedis(t, "--cluster-enabled", "yes")), errCluster)
	})
	t.Run("user without the right to write", func(t *testing.T) {
		t.Parallel()
		url := startRedis(t, "--user", "reader", "on", ">hunter2", "~*", "+@all", "-@write")
		err := warm(t, fmt.Sprintf("redis://reader:hunter2@%s", url[len("redis://"):]))
		require.ErrorContains(t, err, "NOPERM")
		require.NotContains(t, err.Error(), "hunter2")
	})
}

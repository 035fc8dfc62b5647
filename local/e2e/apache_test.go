//go:build integration && apache

package e2e

import (
	"cmp"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Apache Kafka hangs, crashes and comes back with its records. Meanwhile prices are answered, and afterwards each was published and counts
// once. The stack starts a broker of its own: one that the tests were given cannot be stopped.
func TestApacheKafkaIsAway(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cache, err := filepath.Abs("../../.local/cache")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(cache, filepath.Join(dir, "cache")))
	s := start(t, dir, "KAFKA="+cmp.Or(os.Getenv("KAFKA"), "apache"), "CACHE_TTL=1s", "PROVIDER_TIMEOUT=1s", "RATE_LIMIT_LATEST=10000/10ms") //nolint:forbidigo // the kind of broker that the tests use
	broker := s.apache(t)
	ask := func() {
		status, body, _ := call(t, http.MethodGet, s.env["GET_LATEST_URL"]+"/prices/latest?symbol=AAPL", "")
		require.Equal(t, http.StatusOK, status, "%s", body)
	}
	ask()
	s.eventually(t, []string{"0 1"}, "select concat_ws(' ', (select count(*) from outbox), (select count(*) from price_points))")

	require.NoError(t, syscall.Kill(broker, syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		ask()
		return s.rows(t, "select (count(*) > 10)::text from outbox")[0] == "true"
	}, time.Minute, time.Second)
	require.NoError(t, syscall.Kill(broker, syscall.SIGKILL)) // the runtime starts it again
	s.eventually(t, []string{"0"}, "select count(*)::text from outbox")
	require.NotEqual(t, broker, s.apache(t))
	s.countsEveryPrice(t)
}

// apache returns the process ID of the stack's Apache Kafka.
func (s *stack) apache(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, e := range entries {
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(line), filepath.Join(s.dir, "apache-kafka", "server.properties")) {
			pid, err := strconv.Atoi(e.Name())
			require.NoError(t, err)
			return pid
		}
	}
	require.Fail(t, "the stack runs no Apache Kafka")
	return 0
}

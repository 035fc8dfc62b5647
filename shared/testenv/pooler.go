package testenv

import (
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/pgbouncer"
)

// Pooler is [Poolers] for one URL.
func Pooler(tb testing.TB, databaseURL string) string {
	tb.Helper()
	return Poolers(tb, databaseURL)[0]
}

// Poolers starts PgBouncer in transaction mode, otherwise with its defaults, in front of the server of some Postgres URLs, and returns
// the URLs that go through it.
func Poolers(tb testing.TB, databaseURLs ...string) []string {
	tb.Helper()
	program := Installed(tb, "pgbouncer", "pgbouncer")
	dir, err := os.MkdirTemp("", "pgbouncer-") //nolint:usetesting // PgBouncer does not run as root, and cannot enter tb.TempDir
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	require.NoError(tb, os.Chmod(dir, 0o755)) //nolint:gosec // PgBouncer does not run as root
	cmd, pooled, err := pgbouncer.Command(program, dir, FreePort(tb), databaseURLs...)
	require.NoError(tb, err)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	Run(tb, cmd)
	u, err := url.Parse(pooled[0])
	require.NoError(tb, err)
	require.Eventually(tb, func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(tb.Context(), "tcp", u.Host)
		if err == nil {
			_ = c.Close() // nothing was sent
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return pooled
}

package testenv

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Pooler starts PgBouncer in transaction mode, otherwise with its defaults, in front of the server of a Postgres URL, and returns the URL
// that goes through it.
func Pooler(tb testing.TB, databaseURL string) string {
	tb.Helper()
	program := Installed(tb, "pgbouncer", "pgbouncer")
	u, err := url.Parse(databaseURL)
	require.NoError(tb, err)
	password, _ := u.User.Password()
	dir, err := os.MkdirTemp("", "pgbouncer-") //nolint:usetesting // PgBouncer does not run as root, and cannot enter tb.TempDir
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	require.NoError(tb, os.Chmod(dir, 0o755)) //nolint:gosec // PgBouncer does not run as root
	port := FreePort(tb)
	settings := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_file = %s\n"+
		"auth_type = md5\npool_mode = transaction\n", u.Hostname(), u.Port(), port, filepath.Join(dir, "users.txt"))
	for name, text := range map[string]string{"pgbouncer.ini": settings, "users.txt": fmt.Sprintf("%q %q\n", u.User.Username(), password)} {
		require.NoError(tb, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) //nolint:gosec // a password of a test's server
	}
	cmd := exec.Command(program, "-q", filepath.Join(dir, "pgbouncer.ini")) //nolint:gosec,noctx // found on PATH; ended below
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	Run(tb, cmd)
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	require.Eventually(tb, func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(tb.Context(), "tcp", u.Host)
		if err == nil {
			_ = c.Close() // nothing was sent
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return u.String()
}

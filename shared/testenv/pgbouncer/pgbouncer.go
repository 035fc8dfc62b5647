// Package pgbouncer configures PgBouncer in transaction mode, otherwise with its defaults, in front of a Postgres.
package pgbouncer

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Command writes settings and users to dir, which PgBouncer's user must be able to read, and returns the command that runs PgBouncer in
// front of the server of a Postgres URL, and the URL that goes through it.
func Command(program, dir string, port int, databaseURL string) (cmd *exec.Cmd, pooled string, err error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, "", fmt.Errorf("parse the URL of the database: %w", err)
	}
	password, _ := u.User.Password()
	settings := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_file = %s\n"+
		"auth_type = md5\npool_mode = transaction\n", u.Hostname(), u.Port(), port, filepath.Join(dir, "users.txt"))
	for name, text := range map[string]string{"pgbouncer.ini": settings, "users.txt": fmt.Sprintf("%q %q\n", u.User.Username(), password)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // a password of a test's server
			return nil, "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return exec.Command(program, "-q", filepath.Join(dir, "pgbouncer.ini")), u.String(), nil //nolint:gosec,noctx // the caller ends it
}

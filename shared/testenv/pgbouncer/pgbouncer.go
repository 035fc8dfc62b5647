// Package pgbouncer configures PgBouncer in transaction mode, otherwise with its defaults, in front of a Postgres.
package pgbouncer

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Command writes settings and users to dir, which PgBouncer's user must be able to read, and returns the command that runs PgBouncer in
// front of a server, and the URLs that go through it, for Postgres URLs of that server.
func Command(program, dir string, port int, databaseURLs ...string) (cmd *exec.Cmd, pooled []string, err error) {
	var server *url.URL
	var users strings.Builder
	for _, databaseURL := range databaseURLs {
		if server, err = url.Parse(databaseURL); err != nil {
			return nil, nil, errors.New("parse the URL of the database: it is not a URL")
		}
		password, _ := server.User.Password()
		fmt.Fprintf(&users, "%q %q\n", server.User.Username(), password)
		through := *server
		through.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		pooled = append(pooled, through.String())
	}
	settings := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_file = %s\n"+
		"auth_type = md5\npool_mode = transaction\n", server.Hostname(), server.Port(), port, filepath.Join(dir, "users.txt"))
	for name, text := range map[string]string{"pgbouncer.ini": settings, "users.txt": users.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // passwords of a test's server
			return nil, nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	return exec.Command(program, "-q", filepath.Join(dir, "pgbouncer.ini")), pooled, nil //nolint:gosec,noctx // the caller ends it
}

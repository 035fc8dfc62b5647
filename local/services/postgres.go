package services

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/local/process"
	"marketdata/shared/freeport"
)

const (
	pgUser     = "marketdata"
	pgDatabase = "marketdata"
)

// server is an embedded Postgres that runs installed binaries.
type server struct {
	bin      string // folder of initdb and postgres
	data     string
	password string
	port     int
	cred     *syscall.Credential // set if we are root, because Postgres refuses to run as root
	durable  bool
	log      *os.File
}

func startPostgres(ctx context.Context, o Options) (url string, stop func(context.Context), err error) {
	bin, err := findPostgres(ctx, o)
	if err != nil {
		return "", nil, err
	}
	pg := &server{bin: bin, durable: o.Durable}
	if pg.cred, err = droppedUser(); err != nil {
		return "", nil, err
	}
	if pg.data, err = dataFolder(o, pg.cred); err != nil {
		return "", nil, err
	}
	if pg.password, err = KeptSecret(filepath.Join(o.Dir, "postgres.password")); err != nil {
		return "", nil, fmt.Errorf("database password: %w", err)
	}
	if pg.log, err = logFile(o, "postgres"); err != nil {
		return "", nil, err
	}
	if err := pg.initialise(ctx); err != nil {
		return "", nil, err
	}
	pg.stopLeftover(ctx)
	if pg.port, err = freeport.Find(ctx); err != nil {
		return "", nil, err
	}
	p, err := process.Start(process.Options{
		Name: "postgres", Command: pg.command,
		// SIGINT is Postgres' fast shutdown: it rolls open transactions back and disconnects clients.
		StopSignal: syscall.SIGINT, StopWait: 10 * time.Second, Orphan: syscall.SIGINT, Say: o.Say,
	})
	if err != nil {
		return "", nil, err
	}
	stop = func(ctx context.Context) { p.Stop(ctx); _ = pg.log.Close() }
	if err := await(ctx, 30*time.Second, pg.ensureDatabase); err != nil {
		return "", stop, fmt.Errorf("postgres does not answer: %w\n%s", err, tail(pg.log.Name(), 5))
	}
	o.Say(fmt.Sprintf("postgres: %s on 127.0.0.1:%d, data in %s", filepath.Join(bin, "postgres"), pg.port, pg.data))
	return pg.url(pgDatabase), stop, nil
}

// droppedUser returns the user that Postgres runs as: nil unless we are root.
func droppedUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // exec.Cmd takes nil for our own user
	}
	uid, gid, err := lookupPostgresUser()
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uid, Gid: gid, NoSetGroups: false}, nil
}

func (pg *server) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(pgUser, pg.password), Host: "127.0.0.1:" + strconv.Itoa(pg.port), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// run runs one of Postgres' programs as Postgres' user, and waits for it.
func (pg *server) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(pg.bin, name), args...) //nolint:gosec // the binaries found
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// initialise creates the database cluster if there is none. It replaces an incomplete one, which a kill during initdb leaves.
func (pg *server) initialise(ctx context.Context) error {
	done := filepath.Join(pg.data, "PG_VERSION")
	if _, err := os.Stat(done); err == nil {
		if _, err := os.Stat(filepath.Join(pg.data, "global", "pg_control")); err == nil {
			return nil
		}
	}
	if err := emptyFolder(pg.data); err != nil {
		return err
	}
	pwfile := pg.data + ".pw"
	if err := os.WriteFile(pwfile, []byte(pg.password), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer os.Remove(pwfile) //nolint:errcheck // best effort: the folder is private
	if pg.cred != nil {
		if err := os.Chown(pwfile, int(pg.cred.Uid), int(pg.cred.Gid)); err != nil {
			return fmt.Errorf("set owner of password file: %w", err)
		}
	}
	return pg.run(ctx, "initdb", "--no-sync", "-D", pg.data, "-U", pgUser, "-E", "UTF8", "--locale=C",
		"-A", "scram-sha-256", "--pwfile", pwfile)
}

// stopLeftover stops a server that still runs on our data folder because its parent was killed.
func (pg *server) stopLeftover(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(pg.data, "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
		return
	}
	for _, mode := range []string{"fast", "immediate"} {
		if pg.run(ctx, "pg_ctl", "stop", "-D", pg.data, "-m", mode, "-w", "-t", "5") == nil {
			return
		}
	}
}

func (pg *server) command() *exec.Cmd {
	args := []string{
		"-D", pg.data, "-p", strconv.Itoa(pg.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "log_min_messages=warning",
	}
	if !pg.durable {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	cmd := exec.Command(filepath.Join(pg.bin, "postgres"), args...) //nolint:gosec,noctx // the binaries found; ended by Stop
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = pg.log, pg.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.cred}
	return cmd
}

func (pg *server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, pg.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // no transaction is open
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", pgDatabase).Scan(&exists); err != nil {
		return fmt.Errorf("find database: %w", err)
	}
	if !exists {
		if _, err := conn.Exec(ctx, "create database "+pgDatabase); err != nil {
			return fmt.Errorf("create database: %w", err)
		}
	}
	return nil
}

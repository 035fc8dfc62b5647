package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/local/process"
	"marketdata/shared/freeport"
	"marketdata/shared/testenv/pgbouncer"
)

// startPooler starts PgBouncer in front of a Postgres, and replaces the URLs, of several users of one database, by those that go through
// it. Like Postgres, it refuses to run as root.
func startPooler(ctx context.Context, o Options, urls []string) (pooled []string, stop func(context.Context), err error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		return nil, nil, errors.New("no PgBouncer found, which PGBOUNCER=1 needs: install it (Debian: 'apt-get install pgbouncer')")
	}
	user, err := droppedUser()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(o.Dir, "pgbouncer")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // PgBouncer's user must be able to enter it
		return nil, nil, fmt.Errorf("create data folder of pgbouncer: %w", err)
	}
	port, err := freeport.Find(ctx)
	if err != nil {
		return nil, nil, err
	}
	command, pooled, err := pgbouncer.Command(program, dir, port, urls...)
	if err != nil {
		return nil, nil, err
	}
	log, err := logFile(o, "pgbouncer")
	if err != nil {
		return nil, nil, err
	}
	p, err := process.Start(process.Options{
		Name: "pgbouncer",
		Command: func() *exec.Cmd {
			cmd := exec.Command(command.Path, command.Args[1:]...) //nolint:gosec,noctx // ended by Stop
			cmd.Stdout, cmd.Stderr = log, log
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: 5 * time.Second, Orphan: syscall.SIGKILL, Say: o.Say, // SIGINT would wait for its clients
	})
	if err != nil {
		return nil, nil, err
	}
	stop = func(ctx context.Context) { p.Stop(ctx); _ = log.Close() }
	if err := await(ctx, 10*time.Second, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, pooled[0])
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}); err != nil {
		return nil, stop, fmt.Errorf("pgbouncer does not answer: %w\n%s", err, tail(log.Name(), 5))
	}
	o.Say(fmt.Sprintf("postgres: behind PgBouncer in transaction mode, on 127.0.0.1:%d", port))
	return pooled, stop, nil
}

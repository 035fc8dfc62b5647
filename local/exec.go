package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"marketdata/local/services"
)

// execute runs a command with the three service variables set: to the services that the environment names, or to throw-away servers
// that stop with the command. KAFKA is set to the kind of broker that was started. It creates no topics: tests have topics of their own.
// -durable before -- keeps Postgres' default durability, for benchmarks.
func execute(ctx context.Context, args []string) error {
	durable := args[0] == "-durable"
	if durable {
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fmt.Errorf("exec: no command given")
	}
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	// Not under TMPDIR, which Postgres' user may be unable to enter.
	dir, err := os.MkdirTemp("/var/tmp", "marketdata-exec-")
	if err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	defer os.RemoveAll(dir)                      //nolint:errcheck // best effort
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // Postgres' user must be able to enter it; its files are private
		return fmt.Errorf("set mode of data folder: %w", err)
	}
	opts := cfg.services(dir, func(s string) { fmt.Fprintln(os.Stderr, s) })
	opts.Durable = durable
	opts.Pooler = false // tests create databases, which a pooler in transaction mode does not allow; their stacks have poolers of their own
	running, stop, err := services.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer stop(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the caller's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = slices.Concat(withoutKafka(os.Environ()), withoutFiles, running.Environ())
	if opts.Kafka.Servers() == "" {
		cmd.Env = append(cmd.Env, "KAFKA="+opts.Broker)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd.Run()
}

// Migrate brings the database of DATABASE_URL to the newest schema. It runs as a job before a rollout, never at a
// function's start: a schema change must not race with copies that come and go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kelseyhightower/envconfig"

	"marketdata/shared/postgres/migrate"
	"marketdata/shared/service"
)

type config struct {
	DatabaseURL service.Secret `envconfig:"DATABASE_URL" required:"true"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "migrate:", err)
		os.Exit(1) //nolint:gocritic // stop only undoes the signal handler
	}
}

func run(ctx context.Context) error {
	var c config
	if err := envconfig.Process("", &c); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if c.DatabaseURL == "" { // set but empty, which envconfig's required lets pass: the client's own defaults are no database of ours
		return errors.New("config: DATABASE_URL is empty")
	}
	if err := migrate.Up(ctx, string(c.DatabaseURL)); err != nil {
		return err
	}
	service.NewLogger("migrate", 0).Info("schema is up to date")
	return nil
}

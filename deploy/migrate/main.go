// Migrate applies the migrations to the database of DATABASE_URL. It runs as a job before a rollout, never when a function starts: a
// schema change must not race with replicas that start and stop.
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
	if c.DatabaseURL == "" { // envconfig's required accepts an empty value; the client would then connect to its default database
		return errors.New("config: DATABASE_URL is empty")
	}
	if err := migrate.Up(ctx, string(c.DatabaseURL)); err != nil {
		return err
	}
	service.NewLogger("migrate", 0).Info("schema is up to date")
	return nil
}

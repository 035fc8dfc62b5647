// Migrate applies the migrations to the database of DATABASE_URL, or of the URL in the file DATABASE_URL_FILE. It runs as a job before a rollout, never when a function starts: a
// schema change must not race with replicas that start and stop.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"marketdata/shared/postgres/migrate"
	"marketdata/shared/service"
)

type config struct {
	DatabaseURL service.Secret `envconfig:"DATABASE_URL"`
}

// Validate refuses an empty URL, with which the client would connect to its default database.
func (c config) Validate() error { return service.Required("DATABASE_URL", c.DatabaseURL) }

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
	if err := service.LoadConfig(&c); err != nil {
		return err
	}
	if err := migrate.Up(ctx, string(c.DatabaseURL)); err != nil {
		return err
	}
	service.NewLogger("migrate", 0).Info("schema is up to date")
	return nil
}

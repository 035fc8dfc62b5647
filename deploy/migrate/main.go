// Migrate applies the migrations to the database of DATABASE_URL, or of the URL in the file DATABASE_URL_FILE, and gives each function's role
// its privileges. It runs as a job before a rollout, never when a function starts: a schema change must not race with replicas that start
// and stop. If a function has a URL of its own, such as POLL_DATABASE_URL, it makes the user of that URL, or checks it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/service"
)

type config struct {
	DatabaseURL service.Secret `envconfig:"DATABASE_URL"`
	Users       roles.URLs
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
	log := service.NewLogger("migrate", 0)
	log.Info("schema is up to date")
	missing, err := roles.Grant(ctx, string(c.DatabaseURL))
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		log.Warn("the user of DATABASE_URL may not create roles: create them and run this again, if functions shall have users of their own", "missing", missing)
	}
	for function, url := range c.Users.ByFunction() {
		if err := roles.Login(ctx, string(c.DatabaseURL), function, url); err != nil {
			return err
		}
		log.Info("the database user of a function is ready", "of", function)
	}
	return nil
}

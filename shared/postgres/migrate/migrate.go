// Package migrate applies the schema. It is separate from package postgres so that functions do not link the migration library.
package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"marketdata/shared/postgres/migrations"
)

// Up migrates the database to the newest schema. It holds an advisory lock, so concurrent calls are safe; a second call changes
// nothing. All migrations are one transaction: a pooler in transaction mode may give each transaction another session, and a lock that
// outlived its transaction would stay in a session of the pooler. The error never contains the URL.
func Up(ctx context.Context, databaseURL string) error {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return errors.New("DATABASE_URL is not a Postgres connection string")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // no prepared statements, for the same reason
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the work is committed; nothing depends on a clean close
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return up(ctx, tx) })
}

// lockKey is the key of our advisory lock. The library has its own, which it releases before the transaction ends.
const lockKey = 7_301

func up(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", lockKey); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	m, err := migrate.NewMigratorEx(ctx, tx.Conn(), "public.schema_version", &migrate.MigratorOptions{DisableTx: true})
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	if err := m.LoadMigrations(migrations.FS); err != nil {
		return fmt.Errorf("load migrations: %w", err)
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

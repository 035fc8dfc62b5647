// Package migrate applies the schema. It is separate from package postgres so that functions do not link the migration library.
package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"

	"marketdata/shared/postgres/migrations"
)

// Up migrates the database to the newest schema. It holds an advisory lock, so concurrent calls are safe; a second call changes
// nothing. All numbered migrations are one transaction: a pooler in transaction mode may give each transaction another session, and a lock that
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
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return up(ctx, tx) }); err != nil {
		return err
	}
	if err := countLetters(ctx, conn); err != nil {
		return err
	}
	return enableSearch(ctx, conn)
}

const lock = "select pg_advisory_xact_lock($1)"

// lockKey is the key of our advisory lock. The library has its own, which it releases before the transaction ends.
const lockKey = 7_301

func up(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, lock, lockKey); err != nil {
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

// countLetters counts the dead letters that are older than the counts, a few thousand in a transaction: functions are at work. The
// triggers of the table count a letter that becomes counted.
func countLetters(ctx context.Context, conn *pgx.Conn) error {
	// An array is made once; a subquery in IN may be executed again for each row, and then takes more letters than the limit.
	const step = `
		update dead_letters set counted = true
		where id = any (array(select id from dead_letters where not counted order by id limit 5000 for update skip locked))`
	const left = "select exists (select from dead_letters where not counted)"
	for more := true; more; {
		if _, err := conn.Exec(ctx, step); err != nil {
			return fmt.Errorf("count dead letters: %w", err)
		}
		if err := conn.QueryRow(ctx, left).Scan(&more); err != nil {
			return fmt.Errorf("count dead letters: %w", err)
		}
	}
	return nil
}

// enableSearch creates the index for the search in dead letters, if the database has the extension pg_trgm or lets us create it. Without
// it dlq-inspector searches without the values, and says so. Neither "if not exists" is safe with another migration at the same time.
func enableSearch(ctx context.Context, conn *pgx.Conn) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lock, lockKey); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "create extension if not exists pg_trgm")
			return err
		})
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return nil // not installed, or not permitted
		}
		if err == nil {
			_, err = tx.Exec(ctx, "create index if not exists dead_letter_texts_search on dead_letter_texts using gin (text gin_trgm_ops)")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("create the search index: %w", err)
	}
	return nil
}

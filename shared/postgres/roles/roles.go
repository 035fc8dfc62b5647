// Package roles gives each function a database role with what its statements need, and nothing else. The roles cannot log in: the users
// that the functions connect as are their members. Functions do not link this package.
//
// The running version of a function works with the grants of the next one. So a privilege goes one version after the last statement that
// needs it.
package roles

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Functions lists the functions that have a role.
var Functions = []string{"get-latest", "poll", "compute-ma", "dlq-inspector"}

// FS holds the grants: a file for each role.
//
//go:embed *.sql
var FS embed.FS

// Name returns the role of a function.
func Name(function string) string { return "marketdata_" + identifier(function) }

// Variable returns the name of the variable that holds the URL of a function's user.
func Variable(function string) string { return strings.ToUpper(identifier(function)) + "_DATABASE_URL" }

func identifier(function string) string { return strings.ReplaceAll(function, "-", "_") }

// Grant makes the roles that do not exist, and gives each exactly the privileges in its file. Call it after every migration, with the
// owner of the tables. It returns the roles that the owner may not make; once somebody else has made them, the next call grants to them.
// Concurrent calls are safe, also on other databases of the server, which share the roles. The error never contains the URL.
func Grant(ctx context.Context, databaseURL string) (missing []string, err error) {
	conn, err := connect(ctx, "DATABASE_URL", databaseURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the work is committed; nothing depends on a clean close
	// Before the transaction of the grants: migrations of other databases wait for a role that is being made.
	for _, function := range Functions {
		switch made, err := create(ctx, conn, Name(function)); {
		case err != nil:
			return nil, fmt.Errorf("create role %s: %w", Name(function), err)
		case !made:
			missing = append(missing, Name(function))
		}
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// The lock of migrations: PostgreSQL does not serialize grants on the same table, but fails them.
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(7301)"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, closeSchema); err != nil {
			return err
		}
		for _, function := range Functions {
			if slices.Contains(missing, Name(function)) {
				continue
			}
			grants, err := FS.ReadFile(identifier(function) + ".sql")
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, fmt.Sprintf(revokeAll, Name(function))+string(grants)); err != nil {
				return fmt.Errorf("%s: %w", Name(function), err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	return missing, nil
}

// closeSchema keeps everybody but the owner from creating tables, as PostgreSQL 15 does by default. If another user owns the schema, it
// stays as it is.
const closeSchema = `
	do $$ begin
		if exists (
			select from pg_namespace n, aclexplode(n.nspacl) a
			where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE' and pg_has_role(n.nspowner, 'usage'))
		then
			revoke create on schema public from public;
		end if;
	end $$`

// revokeAll takes a role's privileges on all tables and columns of the schema away, so that those in its file are all that it has. It is
// one transaction with the grants: no statement of a function comes in between.
const revokeAll = `
	do $$ declare t regclass; begin
		for t in
			select c.oid
			from pg_class c
			where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and pg_has_role(c.relowner, 'usage') and (
				exists (select from aclexplode(c.relacl) a where a.grantee = '%[1]s'::regrole) or exists (
					select from pg_attribute f, aclexplode(f.attacl) a where f.attrelid = c.oid and a.grantee = '%[1]s'::regrole))
		loop
			execute format('revoke all on %%s from %[1]s', t);
		end loop;
	end $$;
	grant usage on schema public to %[1]s;
	`

// create makes a role that cannot log in. It reports whether the role exists.
func create(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	if found, err := exists(ctx, conn, name); err != nil || found {
		return found, err
	}
	_, err := conn.Exec(ctx, "create role "+name+" nologin")
	if refused(err) {
		return false, nil
	}
	return true, ignoreExisting(err)
}

func exists(ctx context.Context, conn *pgx.Conn, role string) (found bool, err error) {
	err = conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", role).Scan(&found)
	return found, err
}

// refused reports whether the user may not do what it tried (insufficient_privilege).
func refused(err error) bool { return code(err) == "42501" }

// ignoreExisting drops the error of a role that somebody else made at the same time: duplicate_object, or, once the other transaction
// has committed, unique_violation.
func ignoreExisting(err error) error {
	if c := code(err); c == "42710" || c == "23505" {
		return nil
	}
	return err
}

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func connect(ctx context.Context, variable, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%s is not a Postgres connection string", variable)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // no prepared statements: it may be a pooler
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect with %s: %w", variable, err)
	}
	return conn, nil
}

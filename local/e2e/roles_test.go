//go:build integration

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/roles"
)

// Every other test of this package runs the functions as these users, too: this one holds that they are used at all.
func TestFunctionsAreUsersOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t))
	status, _ := s.get(t, "/prices/latest?symbol=AAPL&provider=yfinance") // get-latest connects with its first request
	require.Equal(t, http.StatusOK, status)
	s.eventually(t, []string{"compute_ma", "dlq_inspector", "get_latest", "marketdata", "poll"}, // and the test itself
		"select distinct usename::text from pg_stat_activity where datname = current_database() order by 1")
	owner, err := url.Parse(s.env["DATABASE_URL"])
	require.NoError(t, err)
	password, _ := owner.User.Password()
	require.NotEmpty(t, password)
	for function, user := range users(t, s) {
		own, _ := user.Password()
		require.NotContains(t, s.out.String(), own)
		for _, pid := range s.pids(t, function) {
			environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			require.NoError(t, err)
			require.NotContains(t, string(environ), password, "%s knows the owner's password", function)
			require.Contains(t, string(environ), own)
		}
	}
	require.NotContains(t, s.out.String(), password)
}

// ownServer returns the URL of a superuser on a server without the roles of the functions, for this test alone: roles belong to a server.
func ownServer(t *testing.T) (s *stack, superuser *url.URL) {
	t.Helper()
	s = startParts(t, newDir(t), "services", "PGBOUNCER=0")
	for _, function := range roles.Functions {
		_, err := s.pool.Exec(t.Context(), fmt.Sprintf("drop owned by %[1]s; drop role %[1]s; drop role %[2]s", roles.Name(function), strings.ReplaceAll(function, "-", "_")))
		require.NoError(t, err)
	}
	superuser, err := url.Parse(s.env["DATABASE_URL"])
	require.NoError(t, err)
	return s, superuser
}

func (s *stack) exec(t *testing.T, statements ...string) {
	t.Helper()
	for _, q := range statements {
		_, err := s.pool.Exec(t.Context(), q)
		require.NoError(t, err, q)
	}
}

// The databases of a server share its roles. When several are migrated at the same time, one makes a role, and the others take it.
func TestMigrationsOfManyDatabasesMakeTheRoles(t *testing.T) {
	t.Parallel()
	s, superuser := ownServer(t)
	const databases = 4
	urls := make([]string, databases)
	for i := range urls {
		s.exec(t, fmt.Sprintf("create database many_%d", i))
		one := superuser.JoinPath()
		one.Path = fmt.Sprintf("/many_%d", i)
		urls[i] = one.String()
		require.NoError(t, migrate.Up(t.Context(), urls[i]))
	}
	other, err := s.pool.Begin(t.Context()) // one more migration, which has made the first role and not committed it
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "create role "+roles.Name(roles.Functions[0]))
	require.NoError(t, err)
	done := make(chan error, databases)
	for _, one := range urls {
		go func() {
			missing, err := roles.Grant(context.WithoutCancel(t.Context()), one)
			if len(missing) > 0 {
				err = errors.Join(err, fmt.Errorf("missing: %v", missing))
			}
			done <- err
		}()
	}
	s.eventually(t, []string{fmt.Sprint(databases)}, "select count(*)::text from pg_stat_activity where wait_event_type = 'Lock' and query like 'create role%'")
	require.NoError(t, other.Commit(t.Context()))
	for range databases {
		require.NoError(t, <-done)
	}
	s.eventually(t, []string{"4"}, "select count(*)::text from pg_roles where rolname like 'marketdata\\_%'")
}

// On a managed Postgres the owner of the tables may be unable to create roles. The schema is migrated all the same, and roles that
// somebody else makes get their privileges from the next migration.
func TestAnOwnerWhoMayNotCreateRoles(t *testing.T) {
	t.Parallel()
	s, superuser := ownServer(t)
	s.exec(t, "create role plain login password 'plain'", "create database plain owner plain")
	plain := superuser.JoinPath()
	plain.User, plain.Path = url.UserPassword("plain", "plain"), "/plain"

	require.NoError(t, migrate.Up(t.Context(), plain.String()))
	missing, err := roles.Grant(t.Context(), plain.String())
	require.NoError(t, err)
	require.Equal(t, []string{"marketdata_get_latest", "marketdata_poll", "marketdata_compute_ma", "marketdata_dlq_inspector"}, missing)
	own := plain.JoinPath()
	own.User = url.UserPassword("poll", "hunter2")
	err = roles.Login(t.Context(), plain.String(), "poll", own.String())
	require.EqualError(t, err, `the owner may not make "poll" a member of marketdata_poll, as POLL_DATABASE_URL needs: create the user, and grant marketdata_poll to it`)

	for _, function := range roles.Functions {
		s.exec(t, "create role "+roles.Name(function))
	}
	s.exec(t, "create role poll login password 'hunter2' in role marketdata_poll")
	missing, err = roles.Grant(t.Context(), plain.String())
	require.NoError(t, err)
	require.Empty(t, missing)
	require.NoError(t, roles.Login(t.Context(), plain.String(), "poll", own.String()))
	wrong := strings.Replace(own.String(), "hunter2", "hunter3", 1)
	require.ErrorContains(t, roles.Login(t.Context(), plain.String(), "poll", wrong), "connect with POLL_DATABASE_URL")
	pool := newPool(t, own.String())
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), "select from polling_jobs")
	require.NoError(t, err)
	var refused *pgconn.PgError
	_, err = pool.Exec(t.Context(), "select from price_points")
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "42501", refused.Code)
}

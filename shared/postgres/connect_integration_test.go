//go:build integration

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/testenv"
)

// execModes are the values of default_query_exec_mode; the first is the default of pgx.
var execModes = []string{"default", "cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

func withMode(url, mode string) string {
	if mode == "default" {
		return url
	}
	return url + "&default_query_exec_mode=" + mode
}

// Each transaction may have another session of the pooler, which no statement may rely on.
func TestBehindAPoolerInTransactionMode(t *testing.T) {
	t.Parallel()
	pooled := testenv.Pooler(t, testenv.PostgresURL(t))
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l, err := postgres.OpenSmall(withMode(pooled, mode), 4)
			require.NoError(t, err)
			t.Cleanup(l.Close)
			table := "pooled_" + mode
			_, err = l.Exec(t.Context(), fmt.Sprintf("create table %s (id integer primary key, n numeric, at timestamptz, names text[])", table))
			require.NoError(t, err)
			insert := fmt.Sprintf("insert into %s values ($1, $2::numeric, $3, $4)", table)
			failed := make(chan error, 8)
			for worker := range cap(failed) {
				go func() {
					for i := range 50 {
						if err := postgres.InTx(t.Context(), l, func(tx pgx.Tx) error {
							if _, err := tx.Exec(t.Context(), postgres.Guard(time.Second)); err != nil {
								return err
							}
							_, err := tx.Exec(t.Context(), insert, worker*50+i, "1.10", time.Unix(0, 0), []string{"a", "b"})
							return err
						}); err != nil {
							failed <- err
							return
						}
						var n string
						if err := l.QueryRow(t.Context(), fmt.Sprintf("select n::text from %s where id = $1 and names = $2", table), worker*50+i, []string{"a", "b"}).Scan(&n); err != nil || n != "1.10" {
							failed <- fmt.Errorf("read %q: %w", n, err)
							return
						}
						var b pgx.Batch
						b.Queue(postgres.ByIndex(7 * time.Second))
						b.Queue(fmt.Sprintf("select current_setting('enable_seqscan'), count(*) from %s where id = any($1)", table), []int{worker*50 + i})
						if err := readBatch(t.Context(), l, &b); err != nil {
							failed <- err
							return
						}
					}
					failed <- nil
				}()
			}
			for range cap(failed) {
				require.NoError(t, <-failed)
			}
			require.NoError(t, l.Ping(t.Context()))
		})
	}
}

func readBatch(ctx context.Context, db postgres.DB, b *pgx.Batch) error {
	results := db.SendBatch(ctx, b)
	var setting string
	var n int
	_, err := results.Exec()
	if err == nil {
		err = results.QueryRow().Scan(&setting, &n)
	}
	if err := errors.Join(err, results.Close()); err != nil {
		return err
	}
	if setting != "off" || n != 1 {
		return fmt.Errorf("setting %q, %d rows", setting, n)
	}
	return nil
}

// Without a pooler, prepared statements are used.
func TestStatementsAreUsedWithoutAPooler(t *testing.T) {
	t.Parallel()
	l, err := postgres.OpenSmall(testenv.PostgresURL(t), 1)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	for range 2 {
		var n int
		require.NoError(t, l.QueryRow(t.Context(), "select count(*) from pg_prepared_statements where $1::text is not null", "x").Scan(&n))
		require.Equal(t, 1, n)
	}
}

// A lock that a migration leaves in a session of the pooler would block the next one.
func TestMigrationsThroughAPooler(t *testing.T) {
	t.Parallel()
	direct := testenv.PostgresURL(t)
	pooled := testenv.Pooler(t, direct)
	l, err := postgres.OpenSmall(direct, 1)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	_, err = l.Exec(t.Context(), "drop schema public cascade; create schema public")
	require.NoError(t, err)
	done := make(chan error, 4)
	for range cap(done) {
		go func() { done <- migrate.Up(t.Context(), pooled) }()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	var locks int
	require.NoError(t, l.QueryRow(t.Context(),
		"select count(*) from pg_locks join pg_database d on d.oid = database where locktype = 'advisory' and datname = current_database()").Scan(&locks))
	require.Zero(t, locks)
}

// A failover may leave sessions to the old primary, which is read-only then.
func TestAReadOnlyConnectionIsDropped(t *testing.T) {
	t.Parallel()
	const demote = "set default_transaction_read_only = on" // in this session alone
	setup := func(t *testing.T) *postgres.Lazy {
		t.Helper()
		l, err := postgres.OpenSmall(testenv.PostgresURL(t), 1)
		require.NoError(t, err)
		t.Cleanup(l.Close)
		_, err = l.Exec(t.Context(), "create table t (id integer)")
		require.NoError(t, err)
		_, err = l.Exec(t.Context(), demote)
		require.NoError(t, err)
		return l
	}
	t.Run("by a write", func(t *testing.T) {
		t.Parallel()
		l := setup(t)
		_, err := l.Exec(t.Context(), "insert into t values ($1)", 1)
		require.Equal(t, fault.Unavailable, fault.KindOf(postgres.Classify(err)), "the event is redelivered")
		require.ErrorContains(t, err, "25006")
		_, err = l.Exec(t.Context(), "insert into t values ($1)", 1)
		require.NoError(t, err, "on another connection")
	})
	t.Run("by a transaction", func(t *testing.T) {
		t.Parallel()
		l := setup(t)
		insert := func() error {
			return postgres.InTx(t.Context(), l, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "insert into t values ($1)", 1)
				return err
			})
		}
		require.ErrorContains(t, insert(), "25006")
		require.NoError(t, insert())
	})
	t.Run("by the readiness probe", func(t *testing.T) {
		t.Parallel()
		l := setup(t)
		require.Equal(t, fault.CodeReadOnly, fault.CodeOf(l.Ping(t.Context())))
		require.NoError(t, l.Ping(t.Context()))
		_, err := l.Exec(t.Context(), "insert into t values ($1)", 1)
		require.NoError(t, err)
	})
	t.Run("as long as the server is read-only", func(t *testing.T) {
		t.Parallel()
		server := testenv.PostgresURL(t)
		l, err := postgres.OpenSmall(server, 1)
		require.NoError(t, err)
		t.Cleanup(l.Close)
		u, err := url.Parse(server)
		require.NoError(t, err)
		_, err = l.Exec(t.Context(), "alter database "+strings.Trim(u.Path, "/")+" set default_transaction_read_only = on")
		require.NoError(t, err)
		require.NoError(t, l.Ping(t.Context()), "the session is from before")
		standby, err := postgres.OpenSmall(server, 2)
		require.NoError(t, err)
		t.Cleanup(standby.Close)
		for range 3 {
			require.Equal(t, fault.CodeReadOnly, fault.CodeOf(standby.Ping(t.Context())))
		}
	})
}

// libpq's URL of several hosts: the first that is there and can be written is used.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresURL(t)
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Host = fmt.Sprintf("127.0.0.1:%d,%s", testenv.FreePort(t), u.Host)
	l, err := postgres.OpenLater(u.String() + "&target_session_attrs=read-write&connect_timeout=20")
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.Ping(t.Context()))

	_, err = l.Exec(t.Context(), "alter database "+strings.Trim(u.Path, "/")+" set default_transaction_read_only = on")
	require.NoError(t, err)
	none, err := postgres.OpenLater(u.String() + "&target_session_attrs=read-write")
	require.NoError(t, err)
	t.Cleanup(none.Close)
	require.ErrorContains(t, none.Ping(t.Context()), "read only connection")
}

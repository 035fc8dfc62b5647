//go:build integration

package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// A replica that is stopped inside a transaction blocks the others for seconds only.
func TestIdleTransactionLosesItsLocks(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "&default_query_exec_mode=exec", "&default_query_exec_mode=simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := testenv.PostgresURL(t) + mode
			stopped, err := postgres.Open(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(stopped.Close)
			others, err := postgres.OpenSmall(url, 2)
			require.NoError(t, err)
			t.Cleanup(others.Close)
			_, err = others.Exec(t.Context(), "create table t (id integer primary key, n integer); insert into t values (1, 0)")
			require.NoError(t, err)
			update := func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "update t set n = n + 1 where id = $1", 1)
				return err
			}

			waited := 0
			err = postgres.InTx(t.Context(), stopped, func(tx pgx.Tx) error {
				require.NoError(t, update(t.Context(), tx))
				began := time.Now()
				for { // while this transaction idles
					err := postgres.InTx(t.Context(), others, func(tx pgx.Tx) error { return update(t.Context(), tx) })
					if err == nil {
						break
					}
					require.True(t, postgres.IsLockTimeout(err), "%v", err)
					require.Equal(t, fault.Unavailable, fault.KindOf(postgres.Classify(err)))
					waited++
				}
				require.Less(t, time.Since(began), 30*time.Second, "with a margin for a busy machine")
				return nil
			})
			require.Error(t, err, "the server ended the transaction")
			require.Positive(t, waited, "others time out while the transaction idles")
			var n int
			require.NoError(t, others.QueryRow(t.Context(), "select n from t where id = $1", 1).Scan(&n))
			require.Equal(t, 1, n, "its update is rolled back")
		})
	}
}

type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Settings do not outlive their transaction: the next user of the connection, even through a pooler, has the defaults.
func TestSettingsEndWithTheirTransaction(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "&default_query_exec_mode=exec", "&default_query_exec_mode=simple_protocol"} {
		l, err := postgres.OpenSmall(testenv.PostgresURL(t)+mode, 1)
		require.NoError(t, err)
		t.Cleanup(l.Close)
		settings := func(q rower) (all []string) {
			const sql = "select array[current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout'), current_setting('enable_seqscan')]"
			require.NoError(t, q.QueryRow(t.Context(), sql).Scan(&all))
			return all
		}
		before := settings(l)
		require.NoError(t, postgres.InTx(t.Context(), l, func(tx pgx.Tx) error {
			require.Equal(t, []string{"3s", "5s"}, settings(tx)[:2])
			_, err := tx.Exec(t.Context(), postgres.Guard(time.Second))
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), postgres.ByIndex(7*time.Second))
			require.NoError(t, err)
			require.Equal(t, []string{"1s", "5s", "7s", "off"}, settings(tx))
			return nil
		}))
		require.Equal(t, before, settings(l))

		var b pgx.Batch
		b.Queue(postgres.ByIndex(7 * time.Second))
		b.Queue("select current_setting('enable_seqscan')")
		results := l.SendBatch(t.Context(), &b)
		_, err = results.Exec()
		require.NoError(t, err)
		var value string
		require.NoError(t, results.QueryRow().Scan(&value))
		require.NoError(t, results.Close())
		require.Equal(t, "off", value, "statements of one batch are one transaction")
		require.Equal(t, before, settings(l))
	}
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

func TestLazyPoolValidatesTheURLAndConnectsLater(t *testing.T) {
	t.Parallel()
	_, err := postgres.OpenLater("postgres://u:hunter2@h:port/d")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")

	unused, err := postgres.OpenLater("postgres://127.0.0.1:1/d")
	require.NoError(t, err)
	unused.Close()

	l, err := postgres.OpenLater("postgres://127.0.0.1:1/d")
	require.NoError(t, err)
	t.Cleanup(l.Close)
	began := time.Now()
	_, err = l.Exec(t.Context(), "select 1")
	require.Equal(t, "storage_unavailable", fault.CodeOf(postgres.Classify(err)))
	rows, err := l.Query(t.Context(), "select 1")
	require.Error(t, err)
	rows.Close()
	_, err = l.Begin(t.Context())
	require.Error(t, err)
	var n int
	require.Error(t, l.QueryRow(t.Context(), "select 1").Scan(&n), "Scan returns the error")
	require.Error(t, l.Ping(t.Context()))
	require.Less(t, time.Since(began), 5*time.Second, "a refused connection fails at once")
}

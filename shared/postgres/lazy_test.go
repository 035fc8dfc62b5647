package postgres_test

import (
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv/scrape"
)

func TestLazyPoolValidatesTheURLAndConnectsLater(t *testing.T) {
	t.Parallel()
	_, err := postgres.OpenLater("postgres://u:hunter2@h:port/d")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")

	unused, err := postgres.OpenLater("postgres://127.0.0.1:1/d")
	require.NoError(t, err)
	set := metrics.NewSet()
	unused.Observe(set, "main")
	require.Equal(t, map[string]float64{
		`marketdata_postgres_connections{pool="main",state="acquired"}`: 0, `marketdata_postgres_connections{pool="main",state="idle"}`: 0,
		`marketdata_postgres_connections_max{pool="main"}`: 4, `marketdata_postgres_waits_total{pool="main"}`: 0,
		`marketdata_postgres_wait_seconds_total{pool="main"}`: 0,
	}, scrape.Values(t, set.WritePrometheus))
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

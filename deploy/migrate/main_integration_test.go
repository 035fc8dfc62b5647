//go:build integration

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

func TestTheUserOfAFunction(t *testing.T) {
	database := testenv.PostgresURL(t)
	own := testenv.UserURL(t, database)
	path := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(path, []byte(own+"\n"), 0o600))
	t.Setenv("DATABASE_URL", database)
	t.Setenv("POLL_DATABASE_URL_FILE", path)
	require.NoError(t, run(t.Context()))

	conn, err := pgx.Connect(t.Context(), own)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "select from polling_jobs")
	require.NoError(t, err)

	t.Setenv("POLL_DATABASE_URL_FILE", "")
	t.Setenv("POLL_DATABASE_URL", strings.Replace(own, "hunter2", "hunter3", 1))
	err = run(t.Context())
	require.ErrorContains(t, err, "connect with POLL_DATABASE_URL")
	require.NotContains(t, err.Error(), "hunter")
}

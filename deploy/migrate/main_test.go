package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEmptyDatabaseURLIsAnError(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	require.ErrorContains(t, run(t.Context()), "DATABASE_URL is not set")
}

func TestDatabaseURLFromAFile(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	path := filepath.Join(t.TempDir(), "database-url")
	require.NoError(t, os.WriteFile(path, []byte("hunter2:\n"), 0o600))
	t.Setenv("DATABASE_URL_FILE", path)
	err := run(t.Context())
	require.ErrorContains(t, err, "DATABASE_URL is not a Postgres connection string")
	require.NotContains(t, err.Error(), "hunter2")
}

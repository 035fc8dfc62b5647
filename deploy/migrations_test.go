package deploy_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Migration numbers have no gaps and no duplicates. Two migrations that were written in parallel fail here, not in a database.
func TestMigrationsAreNumbered(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../shared/postgres/migrations/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for i, file := range files {
		require.Equal(t, fmt.Sprintf("%04d_", i+1), filepath.Base(file)[:5], file)
	}
}

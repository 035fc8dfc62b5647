//go:build integration

package services

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A newcomer without PostgreSQL gets one that runs, and from then on without a download.
func TestPostgresIsDownloadedOnce(t *testing.T) {
	t.Parallel()
	var said []string
	o := Options{Cache: t.TempDir(), Dir: t.TempDir(), Say: func(s string) { said = append(said, s) }}
	if os.Geteuid() == 0 {
		o.Cache = "/var/tmp"
	}
	bin, err := fetchedPostgres(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 15, version(t.Context(), bin))
	for _, needed := range []string{"initdb", "pg_ctl"} {
		require.FileExists(t, filepath.Join(bin, needed))
	}
	said = nil
	again, err := fetchedPostgres(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, bin, again)
	require.Empty(t, said)
}

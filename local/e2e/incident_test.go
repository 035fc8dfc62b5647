//go:build integration

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// 'make incident' succeeds twice in a row, and fails with a hint if no stack is running.
func TestIncident(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	play := func() (string, error) {
		cmd := exec.Command(filepath.Join(dir, "bin", "local"), "incident")
		cmd.Env = append(os.Environ(), "LOCAL_DIR="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := play()
	require.Error(t, err)
	require.Contains(t, out, "'make run' first")
	s := start(t, dir)
	for range 2 {
		out, err = play()
		require.NoError(t, err, out)
		for _, line := range []string{"is 1228, of 5 points", "is 1025, of 6 points", "is 40, of 5 points", "8 dead letters", "is back"} {
			require.Contains(t, out, line)
		}
	}
	require.Equal(t, []string{"16"}, s.rows(t, "select count(*)::text from dead_letters"))
	require.Equal(t, []string{"50", "50"}, s.rows(t, "select average::text from symbol_averages where provider = 'incident' and window_size = 5"))
	require.Equal(t, []string{"14"}, s.rows(t, "select count(*)::text from price_points where provider = 'incident'"))
}

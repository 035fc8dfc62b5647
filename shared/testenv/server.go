package testenv

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Run runs a server until the test ends. What it writes is logged if the test fails.
func Run(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(tb, cmd.Start())
	tb.Cleanup(func() {
		require.NoError(tb, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
}

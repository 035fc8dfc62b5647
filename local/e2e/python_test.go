//go:build integration

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// python returns the Python of a virtual environment with the packages of testdata/<name>.txt, all of them pinned. It is beside the
// binaries, and made anew if the file changes.
func python(t *testing.T, name string) string {
	t.Helper()
	python := testenv.Installed(t, "python3", "python3-venv")
	if exec.Command(python, "-c", "import ensurepip, venv").Run() != nil {
		testenv.Missing(t, "it needs virtual environments of Python, which are not installed (Debian: apt-get install python3-venv)")
	}
	wanted, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	require.NoError(t, err)
	dir := filepath.Join(os.Getenv("E2E_BIN_DIR"), "..", "python", name) //nolint:forbidigo // where 'make test' puts the binaries
	program, installed := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "installed.txt")
	if has, err := os.ReadFile(installed); err == nil && bytes.Equal(has, wanted) {
		return program
	}
	require.NoError(t, os.RemoveAll(dir))
	output(t, exec.Command(python, "-m", "venv", dir))
	output(t, exec.Command(program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", filepath.Join("testdata", name+".txt")))
	require.NoError(t, os.WriteFile(installed, wanted, 0o600))
	return program
}

// output runs a command to its end and returns what it printed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", strings.Join(cmd.Args, " "), out)
	return string(out)
}

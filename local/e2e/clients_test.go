//go:build integration

package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Clients that are generated from the OpenAPI document compile, and their calls succeed.
func TestGeneratedClients(t *testing.T) {
	t.Parallel()
	s := documented(t)
	dir := t.TempDir()
	document := filepath.Join(dir, "openapi.json")
	status, text, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/openapi.json", "")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, os.WriteFile(document, text, 0o600))
	environ := append(ownEnviron(), "DLQ_TOKEN="+s.env["DLQ_TOKEN"])

	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		const generator = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
		module := filepath.Join(dir, "go")
		require.NoError(t, os.CopyFS(module, os.DirFS("testdata/goclient")))
		generate := exec.CommandContext(t.Context(), "go", "run", generator, "-generate", "types,client", "-package", "main", "-o", "client.go", document)
		compile := exec.CommandContext(t.Context(), "go", "build", "-o", "client", ".")
		call := exec.CommandContext(t.Context(), "./client", s.env["GATEWAY_URL"])
		for _, cmd := range []*exec.Cmd{generate, compile, call} {
			cmd.Dir, cmd.Env = module, environ
			output(t, cmd)
		}
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		program := python(t, "openapi-python-client")
		script, err := filepath.Abs("testdata/client.py")
		require.NoError(t, err)
		generate := exec.CommandContext(t.Context(), program, "-m", "openapi_python_client", "generate",
			"--path", document, "--output-path", filepath.Join(dir, "market_data"), "--meta", "none", "--fail-on-warning")
		generate.Env = append(environ, "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH")) //nolint:forbidigo // it runs ruff, which is beside it
		output(t, generate)
		call := exec.CommandContext(t.Context(), program, script, s.env["GATEWAY_URL"])
		call.Env = append(environ, "PYTHONPATH="+dir)
		output(t, call)
	})
}

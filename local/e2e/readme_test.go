//go:build integration

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// notRun are the commands of the README that this test does not run, and why.
var notRun = map[string]string{
	"make run TRACES=1": "it is the stack of this test",
	"make test":         "it runs this test",
	"docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger":                                                                            "needs Docker; TestTraces has an endpoint of its own",
	"make run OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318":                                                                                  "as TestTraces does",
	"go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -generate types,client -package marketdata -o client.go openapi.json": "TestGeneratedClients",
	"pipx run openapi-python-client==0.29.1 generate --path openapi.json --output-path market_data --meta none":                                   "TestGeneratedClients",
	"docker compose up --build": "needs Docker; the tests of deploy read the file",
	"docker build -f deploy/Dockerfile --build-arg PROGRAM=./functions/poll -t marketdata/poll .": "needs Docker",
	"REGISTRY=ghcr.io/acme deploy/kn.sh TAG":                                                      "needs a cluster; 'make manifests-check' validates what it applies",
	"faas-cli deploy -f deploy/openfaas/stack.yaml":                                               "needs OpenFaaS; the tests of deploy read the file",
}

// commandsOf returns the commands in the shell blocks of a document, without their comments.
func commandsOf(t *testing.T, path string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	comment := regexp.MustCompile(`\s+#\s.*$`)
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			if line = comment.ReplaceAllString(strings.TrimSpace(line), ""); line != "" {
				all = append(all, line)
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}

// A newcomer types what the README says, from top to bottom, and every command succeeds.
func TestCommandsOfTheReadme(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "DEMO=1", "TRACES=1", "OTEL_BSP_SCHEDULE_DELAY=50")
	// What the demo asks for is there after seconds: a reader takes longer, a test does not.
	for _, window := range []string{"provider=yfinance&window=5", "provider=yfinance-1d&window=50"} {
		require.Eventually(t, func() bool { status, _ := s.get(t, "/averages/latest?symbol=AAPL&"+window); return status == 200 }, time.Minute, 100*time.Millisecond)
	}
	commands := commandsOf(t, "../../README.md")
	for command := range notRun {
		require.Contains(t, commands, command, "the README does not have it any more")
	}
	commands = slices.DeleteFunc(commands, func(command string) bool { return notRun[command] != "" })
	// An answer that is an error fails a command here, and a stream ends.
	script := `set -euo pipefail
curl() { command curl -sS --fail-with-body --max-time 10 "$@" || case "$*" in -N*) test $? = 28 ;; *) return 1 ;; esac; echo; }
`
	place := strings.NewReplacer("localhost:8000", strings.TrimPrefix(s.env["GATEWAY_URL"], "http://"), ". .local/env", ". "+filepath.Join(s.dir, "env"),
		".local/bin/", filepath.Join(s.dir, "bin")+"/", "make incident", filepath.Join(s.dir, "bin", "local")+" incident")
	for _, command := range commands {
		script += "echo '$$ " + strings.ReplaceAll(command, "'", `'\''`) + "'\n" + place.Replace(command) + "\n"
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Env = append(ownEnviron(), "LOCAL_DIR="+s.dir)
	cmd.Dir = s.dir // for the files that they write
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	answers := map[string]string{}
	for _, part := range strings.Split(string(out), "$$ ")[1:] {
		command, answer, _ := strings.Cut(part, "\n")
		answers[command] += answer
	}
	require.Len(t, answers, len(commands))
	for part, want := range map[string]string{
		"provider=alpha_vantage'": `"price":`, "provider=yfinance&window=5": `"average":`, "window=50": `"average":`, "prices/poll": `"job_id":`, "prices/backfill": `"status":`,
		"averages/stream": "event: series", "averages/history": "\n20", "/traces/$(": "compute-ma commit", "make incident": "is back", "groups": "invalid_price",
		"--dry-run": "plan of a replay", "--yes": "resolved           1",
	} {
		i := slices.IndexFunc(commands, func(command string) bool { return strings.Contains(command, part) })
		require.GreaterOrEqual(t, i, 0, "no command has %s", part)
		require.Contains(t, answers[commands[i]], want, commands[i])
	}
	require.Equal(t, []string{"resolved"}, s.rows(t, "select status from dead_letters where code = 'invalid_price'"))
}

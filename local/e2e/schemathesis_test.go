//go:build integration

package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// documented starts a stack whose limits hide nothing, with prices, averages and dead letters in it.
func documented(t *testing.T) *stack {
	t.Helper()
	s := start(t, newDir(t), "RATE_LIMIT_LATEST=100000/1s", "RATE_LIMIT_POLL=100000/1s", "RATE_LIMIT_DEFAULT=100000/1s", "RATE_LIMIT_TIMEOUT=5s", "STREAM_DURATION=1s")
	status, body := s.get(t, "/prices/latest?symbol=AAPL&provider=yfinance")
	require.Equal(t, http.StatusOK, status, body)
	s.produce(t, &kafka.Message{Value: []byte(badPrice("AAPL", "x"))}, &kafka.Message{Value: []byte(badPrice("MSFT", "y"))})
	s.eventually(t, []string{"2"}, "select count(*)::text from dead_letters")
	s.eventually(t, []string{"AAPL"}, "select distinct symbol from symbol_averages")
	return s
}

// Schemathesis makes requests from the OpenAPI document, valid and invalid ones, and checks that every response is what the document says:
// statuses, media types, headers, bodies, access, methods that do not exist, and what was created and deleted.
func TestTheAPIIsAsDocumented(t *testing.T) {
	t.Parallel()
	program := python(t, "schemathesis")
	s := documented(t)
	config, err := filepath.Abs("testdata/schemathesis.toml")
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-m", "schemathesis.cli", "--config-file", config, "--no-color", "run", s.env["GATEWAY_URL"]+"/openapi.json", "--checks", "all")
	cmd.Dir = t.TempDir()
	cmd.Env = append(ownEnviron(), "DLQ_TOKEN="+s.env["DLQ_TOKEN"])
	require.Regexp(t, `\d+ generated, \d+ passed`, output(t, cmd))
}

//go:build integration

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// inspector returns a command of dlq-inspector's terminal, as an operator of the stack runs it.
func (s *stack) inspector(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(s.dir, "bin", "dlq-inspector"), args...)
	cmd.Env = append(ownEnviron(), "GATEWAY_URL="+s.env["GATEWAY_URL"], "DLQ_TOKEN="+s.env["DLQ_TOKEN"])
	return cmd
}

// ends runs a command to its end.
func ends(t *testing.T, cmd *exec.Cmd) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		require.True(t, ok, err)
		return exit.ExitCode(), o.String(), e.String()
	}
	return 0, o.String(), e.String()
}

// An operator works through dead letters at a terminal: the commands do what the page does, and their exit codes say what happened.
func TestTerminal(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("rita's"))
	s := start(t, newDir(t), "RATE_LIMIT_DEFAULT=10000/1s", "DLQ_TOKENS=rita:"+hex.EncodeToString(sum[:])+":read")
	bad := strings.Replace(badPrice("BAD", "1.5?"), "?", "\u202e", 1)
	s.produce(t, &kafka.Message{Value: []byte(bad)}, &kafka.Message{Value: []byte(badPrice("ONE", "2.5"))}, &kafka.Message{Value: []byte(badPrice("TWO", "2.5"))})
	s.eventually(t, []string{"3"}, "select count(*)::text from dead_letters")
	id := func(symbol string) string {
		return s.rows(t, "select id::text from dead_letters where symbol = $1", symbol)[0]
	}
	step := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := ends(t, s.inspector(t, args...))
		require.Equal(t, want, code, "%v: %s%s", args, out, errs)
		require.NotContains(t, out+errs, s.env["DLQ_TOKEN"])
		return out + errs
	}

	require.Contains(t, step(0, "groups"), "invalid_price")
	list := step(0, "list", "--symbol", "bad", "--status", "open")
	require.Contains(t, list, id("BAD"))
	require.NotContains(t, list, id("ONE"))
	_, answer, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/dlq/messages?limit=100", "", "Authorization", "Bearer "+s.env["DLQ_TOKEN"])
	require.Equal(t, strings.TrimSpace(string(answer)), strings.TrimSpace(step(0, "list", "--json")))
	require.Contains(t, step(0, "show", id("BAD")), s.topics().Events+" partition")
	require.NotContains(t, step(0, "show", id("BAD")), "\u202e")
	require.Equal(t, bad, step(0, "show", "--raw", id("BAD")))

	require.Contains(t, step(1, "replay", "--yes", id("BAD")), "refused")
	require.Contains(t, step(2, "replay", "--all"), "--yes")
	require.Contains(t, step(1, "replay", "--all", "--dry-run"), "3 of 3 letters")
	s.rows(t, `update dead_letters set value = convert_to(replace(convert_from(value, 'UTF8'), '"2.5"', '2.5'), 'UTF8') where symbol in ('ONE', 'TWO') returning symbol`)
	require.Contains(t, step(0, "replay", "--yes", "--reason", "fixed", id("ONE")), "resolved")
	require.Contains(t, step(0, "replay", "--yes", "--symbol", "TWO"), "completed, 1 of 1 letter\n")
	require.Contains(t, step(2, "discard", "--all", "--reason", "known"), "--yes")
	discarded := step(1, "discard", "--reason", "known", id("BAD"), id("ONE"))
	require.Contains(t, discarded, "completed, 2 of 2 letters\n  discarded          1\n  skipped            1\n")
	require.Contains(t, discarded, "not_open")
	require.Contains(t, step(1, "discard", "--reason", "known", id("BAD")), "not_open")
	require.Equal(t, []string{"BAD discarded", "ONE resolved", "TWO resolved"}, s.rows(t, "select symbol || ' ' || status from dead_letters order by 1"))
	require.Equal(t, []string{"fixed", "known"}, s.rows(t, "select distinct reason from dead_letter_audit where reason <> '' and action in ('replay', 'discard') order by 1"))

	require.Contains(t, step(2, "lits"), "unknown command")
	require.Contains(t, step(2, "list", "--stats"), "-stats")
	require.Contains(t, step(1, "show", "0190f5d8-0000-7000-8000-000000000001"), "message_not_found")
	with := func(lines ...string) (code int, errs string) {
		cmd := s.inspector(t, "discard", "--reason", "x", id("BAD"))
		cmd.Env = append(cmd.Env, lines...)
		code, _, errs = ends(t, cmd)
		return code, errs
	}
	for name, lines := range map[string][]string{
		"unauthorized": {"DLQ_TOKEN=wrong"}, "read_only_token": {"DLQ_TOKEN=rita's"},
		"connection refused": {fmt.Sprint("GATEWAY_URL=http://127.0.0.1:", testenv.FreePort(t))},
	} {
		code, errs := with(lines...)
		require.Equal(t, 3, code, errs)
		require.Contains(t, errs, name)
	}
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(s.env["DLQ_TOKEN"]+"\n"), 0o600))
	code, errs := with("DLQ_TOKEN=", "DLQ_TOKEN_FILE="+file)
	require.Equal(t, 1, code, errs)
}

// A command whose reader has gone ends at once, without a word.
func TestTerminalBrokenPipe(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_DEFAULT=10000/1s")
	read, write, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.Close())
	cmd := s.inspector(t, "list")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = write, &errs
	err = cmd.Run()
	require.NoError(t, write.Close())
	exit, ok := errors.AsType[*exec.ExitError](err)
	require.True(t, ok, err)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGPIPE, status.Signal())
	require.Empty(t, errs.String())
}

// watch prints letters as they fail, until Ctrl-C, which is its success.
func TestTerminalWatch(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_DEFAULT=10000/1s")
	cmd := s.inspector(t, "watch")
	out := &safeBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	n := 0
	require.Eventually(t, func() bool { // its first look may be at any time: what is there by then is not new
		n++
		s.produce(t, &kafka.Message{Value: []byte(badPrice(fmt.Sprint("W", n), "1"))})
		return strings.Contains(out.String(), "invalid_price")
	}, 30*time.Second, 500*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
	require.NotContains(t, out.String(), "dlq-inspector")
}

//go:build integration && linux

package portability

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// process is a running function.
type process struct {
	cmd      *exec.Cmd
	address  string // where it listens: it is told to by HOST and PORT
	began    time.Time
	log      bytes.Buffer
	signaled chan struct{} // closed at SIGTERM
	exited   chan struct{}
}

// command returns the command of a function's binary with the environment of a container: the services, and nothing of the test's.
func command(t *testing.T, function string, env ...string) *exec.Cmd {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' has put the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test', which builds the binaries first")
	cmd := exec.Command(filepath.Join(bin, function)) // ended by launch
	brokers := testenv.Kafka(t)
	cmd.Env = slices.Concat(brokers.Environ(), testenv.Topics(t, brokers).Environ(), env)
	return cmd
}

// launch starts a command on a port of its own until the test ends. How it ends does not matter, unless the test calls requireEnd.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	port := testenv.FreePort(t)
	p := &process{cmd: cmd, address: fmt.Sprint("127.0.0.1:", port), signaled: make(chan struct{}), exited: make(chan struct{})}
	cmd.Env = append(cmd.Env, "HOST=127.0.0.1", fmt.Sprint("PORT=", port))
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	p.began = time.Now()
	require.NoError(t, cmd.Start())
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		<-p.exited
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

func (p *process) terminate() error {
	close(p.signaled)
	return p.cmd.Process.Signal(syscall.SIGTERM)
}

// requireEnd waits for the end of a process that was told to stop. Status 0 means that it has closed everything in time.
func (p *process) requireEnd(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second):
		require.FailNow(t, "the function did not end")
	}
	require.Equal(t, 0, p.cmd.ProcessState.ExitCode(), "%s", p.cmd.ProcessState)
}

// setting returns a variable's value in one of our manifests, which are .env files or YAML.
func setting(t *testing.T, file, variable string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^\s*` + variable + `(?:=|: )(.*)$`).FindSubmatch(text)
	require.NotNil(t, found, "%s has no %s", file, variable)
	value, _, _ := strings.Cut(string(found[1]), " #")
	return value
}

package process_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/process"
)

func TestChildIsRestartedUntilStopped(t *testing.T) {
	t.Parallel()
	said := make(chan string, 10)
	p, err := process.Start(process.Options{
		Name: "child", Command: func() *exec.Cmd { return exec.Command("sleep", "600") },
		StopSignal: syscall.SIGTERM, StopWait: 5 * time.Second, Say: func(s string) { said <- s },
	})
	require.NoError(t, err)
	first := p.PID()
	p.Kill()
	require.Contains(t, <-said, "killed")
	require.Eventually(t, func() bool { return p.PID() != first }, 5*time.Second, 5*time.Millisecond)
	second := p.PID()
	p.Stop(t.Context())
	p.Stop(t.Context())
	require.ErrorIs(t, syscall.Kill(second, 0), syscall.ESRCH)
}

func TestStopKillsAChildThatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	// The child and its own child hold the pipe's write end, so the pipe ends when both are dead.
	out, in, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close() //nolint:errcheck // only read
	p, err := process.Start(process.Options{
		Name: "stubborn",
		Command: func() *exec.Cmd {
			cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done")
			cmd.Stdout = in
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: 100 * time.Millisecond, Say: func(string) {},
	})
	require.NoError(t, err)
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	p.Stop(t.Context())
	require.NoError(t, in.Close())
	require.NoError(t, out.SetReadDeadline(time.Now().Add(5*time.Second)))
	rest, err := io.ReadAll(lines)
	require.NoError(t, err, "a process of the group is still alive")
	require.Empty(t, rest)
}

// Postgres' children are in sessions of their own. Paused ones must neither delay the stop nor survive it.
func TestStopEndsPausedProcesses(t *testing.T) {
	t.Parallel()
	const child, wait = `setsid sleep 600 & `, `; echo $!; while :; do wait; done`
	for name, c := range map[string]struct {
		script string
		paused bool
		limit  time.Duration // the context's timeout
		within time.Duration
	}{
		"handles the signal": {child + `trap "kill $!; exit" TERM` + wait, true, time.Minute, 5 * time.Second},
		"ignores the signal": {child + `trap "" TERM` + wait, true, time.Minute, 5 * time.Second},
		"context times out":  {child + `trap "" TERM` + wait, false, 50 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, in, err := os.Pipe()
			require.NoError(t, err)
			defer out.Close() //nolint:errcheck // only read
			p, err := process.Start(process.Options{
				Name: name,
				Command: func() *exec.Cmd {
					cmd := exec.Command("sh", "-c", c.script)
					cmd.Stdout = in
					return cmd
				},
				StopSignal: syscall.SIGTERM, StopWait: time.Second, Say: func(string) {},
			})
			require.NoError(t, err)
			lines := bufio.NewReader(out)
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			sleeper, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			if c.paused {
				require.NoError(t, syscall.Kill(p.PID(), syscall.SIGSTOP))
				require.NoError(t, syscall.Kill(sleeper, syscall.SIGSTOP))
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			began := time.Now()
			p.Stop(ctx)
			require.Less(t, time.Since(began), c.within)
			require.NoError(t, in.Close())
			require.NoError(t, out.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err = io.ReadAll(lines)
			require.NoError(t, err, "a child is still alive")
		})
	}
}

func TestFailedFirstStartIsAnError(t *testing.T) {
	t.Parallel()
	_, err := process.Start(process.Options{Name: "nothing", Command: func() *exec.Cmd { return exec.Command("/does/not/exist") }})
	require.Error(t, err)
}

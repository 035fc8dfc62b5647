package process_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/process"
)

func TestRestartsWhatDiesAndStopsForGood(t *testing.T) {
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
	p.Stop()
	p.Stop()
	require.ErrorIs(t, syscall.Kill(second, 0), syscall.ESRCH)
}

func TestStopKillsWhatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	// The pipe's writing end is held by the child and by its own child: it ends when both are dead, whoever reaps them.
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
	p.Stop()
	require.NoError(t, in.Close())
	require.NoError(t, out.SetReadDeadline(time.Now().Add(5*time.Second)))
	rest, err := io.ReadAll(lines)
	require.NoError(t, err, "something of the group is still alive")
	require.Empty(t, rest)
}

func TestWhatCannotStartIsAnError(t *testing.T) {
	t.Parallel()
	_, err := process.Start(process.Options{Name: "nothing", Command: func() *exec.Cmd { return exec.Command("/does/not/exist") }})
	require.Error(t, err)
}

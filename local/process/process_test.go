package process_test

import (
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
	p, err := process.Start(process.Options{
		Name:       "stubborn",
		Command:    func() *exec.Cmd { return exec.Command("sh", "-c", "trap '' TERM; while :; do sleep 1; done") },
		StopSignal: syscall.SIGTERM, StopWait: 100 * time.Millisecond, Say: func(string) {},
	})
	require.NoError(t, err)
	pid := p.PID()
	p.Stop()
	require.ErrorIs(t, syscall.Kill(-pid, 0), syscall.ESRCH)
}

func TestWhatCannotStartIsAnError(t *testing.T) {
	t.Parallel()
	_, err := process.Start(process.Options{Name: "nothing", Command: func() *exec.Cmd { return exec.Command("/does/not/exist") }})
	require.Error(t, err)
}

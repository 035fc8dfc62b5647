//go:build integration && linux

package portability

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// As in our image: the root directory has only the static program and cannot be written, and the user is 65532, without a capability.
// There is no HOME, and no /tmp, /proc or /dev either.
func TestInAContainer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range pairs(platforms) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, _ := w.start(t, c.p, c.f, contain)
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.cmd.Process.Pid))
			require.NoError(t, err)
			require.Contains(t, string(state), "\nCapEff:\t0000000000000000\n")
			for range 3 {
				got, err := i.call(t.Context(), c.f.work(c.p))
				require.NoError(t, err)
				require.True(t, ok(got), got.body)
			}
			require.NoError(t, i.terminate())
			i.requireEnd(t)
		})
	}
}

// contain makes a command run in a root directory of its own. The directory belongs to its user, but has no write permission, which
// only a capability could override.
func contain(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	root := t.TempDir()
	from, err := os.Open(cmd.Path)
	require.NoError(t, err)
	defer from.Close() //nolint:errcheck // only read
	to, err := os.OpenFile(filepath.Join(root, "program"), os.O_CREATE|os.O_WRONLY, 0o555)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	require.NoError(t, os.Chmod(root, 0o555))
	t.Cleanup(func() { require.NoError(t, os.Chmod(root, 0o755)) }) // or it could not be removed
	cmd.Env = append(cmd.Env, "SHUTDOWN_DELAY=0s")                  // how it stops is another test's
	cmd.Path, cmd.Args, cmd.Dir = "/program", []string{"/program"}, "/"
	cmd.SysProcAttr = namespace(t, 0)
	cmd.SysProcAttr.Chroot = root
}

// namespace returns the attributes of a process in a user namespace of its own, in which it is user 65532, and in the others of flags.
// No privilege is needed, but an administrator may forbid it.
func namespace(t *testing.T, flags uintptr) *syscall.SysProcAttr {
	t.Helper()
	attributes := func(flags uintptr) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | flags,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getegid(), Size: 1}},
		}
	}
	try := exec.Command("/proc/self/exe", "-test.run=^$")
	try.SysProcAttr = attributes(flags)
	try.SysProcAttr.Chroot = "/"
	err := try.Run()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) {
		testenv.Missing(t, "it needs user namespaces, which this machine forbids (Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)")
	}
	require.NoError(t, err)
	return attributes(flags)
}

// The kubelet's probes come to the address of the pod. The function runs in a network namespace without any interface, so that no port
// is open to others.
func TestListensOnAllInterfaces(t *testing.T) {
	t.Parallel()
	for _, f := range functions {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, f.name, "PORT=8012", "DATABASE_URL=postgres://127.0.0.1:1/x", "REDIS_URL=redis://127.0.0.1:1")
			cmd.SysProcAttr = namespace(t, syscall.CLONE_NEWNET)
			testenv.Run(t, cmd)
			listening := regexp.MustCompile(`: 0+:1F4C 0+:0000 0A `) // port 8012 of any address, in state LISTEN: see proc_pid_net(5)
			require.Eventually(t, func() bool {
				for _, table := range []string{"tcp", "tcp6"} {
					text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", cmd.Process.Pid, table))
					if err == nil && listening.Match(text) {
						return true
					}
				}
				return false
			}, coldStartLimit, 5*time.Millisecond)
		})
	}
}

// Package process keeps child processes running. Each has a process group of its own, is restarted when it exits, and never
// outlives this process.
package process

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Options says what to run and how to stop it.
type Options struct {
	Name       string
	Command    func() *exec.Cmd // returns a new command for each start
	StopSignal syscall.Signal   // asks the child to stop
	StopWait   time.Duration    // time to stop, after which its group is killed
	Orphan     syscall.Signal   // sent by the kernel if this process dies (Linux only)
	Say        func(string)     // reports unexpected exits
}

// Process is a child that is restarted whenever it exits.
type Process struct {
	opts Options
	mu   sync.Mutex
	cmd  *exec.Cmd
	stop chan struct{}
	done chan struct{}
	once sync.Once
}

const (
	firstPause = 100 * time.Millisecond // before the first restart; doubles up to maxPause
	maxPause   = 3 * time.Second
	steady     = 10 * time.Second // a run this long resets the pause
)

// Start starts the child. An error means that the first start failed.
func Start(o Options) (*Process, error) {
	p := &Process{opts: o, stop: make(chan struct{}), done: make(chan struct{})}
	if err := p.launch(); err != nil {
		return nil, err
	}
	go p.keep()
	return p, nil
}

func (p *Process) launch() error {
	cmd := p.opts.Command()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C in a terminal must reach only this process, which stops its children in order
	setOrphanSignal(cmd.SysProcAttr, p.opts.Orphan)
	if err := launcher(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.opts.Name, err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	return nil
}

// PID returns the process ID of the current child.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

func (p *Process) keep() {
	defer close(p.done)
	pause := firstPause
	for {
		started := time.Now()
		err := p.cmd.Wait()
		for {
			select {
			case <-p.stop:
				return
			default:
			}
			if time.Since(started) > steady {
				pause = firstPause
			}
			p.opts.Say(fmt.Sprintf("%s exited (%v); restarting it", p.opts.Name, state(err)))
			select {
			case <-p.stop:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, maxPause)
			if err = p.launch(); err == nil {
				break
			}
		}
		select { // Stop may have signalled the old child while the new one started
		case <-p.stop:
			p.signal(p.opts.StopSignal)
		default:
		}
	}
}

func state(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Stop asks the child to stop, kills it after StopWait or once ctx ends, and returns when it is gone. It resumes processes that are
// paused (SIGSTOP), which would not handle the signal. Safe to call twice.
func (p *Process) Stop(ctx context.Context) {
	p.once.Do(func() {
		close(p.stop)
		p.signal(p.opts.StopSignal)
		p.signalAll(syscall.SIGCONT)
	})
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	case <-time.After(p.opts.StopWait):
	}
	p.Kill()
	<-p.done
}

// Kill kills the child, its process group and its descendants at once. Unless stopped, the child is restarted.
func (p *Process) Kill() { p.signalAll(syscall.SIGKILL) }

// signalAll signals the child's process group, and descendants that have left it, as those of Postgres do (setsid). The latter are
// known on Linux only.
func (p *Process) signalAll(s syscall.Signal) {
	pid := p.PID()
	family := descendants(pid) // before they become orphans
	_ = syscall.Kill(-pid, s)  // ESRCH: already gone
	for _, d := range family {
		_ = syscall.Kill(d, s)
	}
}

func (p *Process) signal(s syscall.Signal) { _ = syscall.Kill(p.PID(), s) } // ESRCH: already gone

var launches = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		// The kernel sends the orphan signal when the starting *thread* ends. This thread never does.
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

func launcher(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	launches() <- func() { result <- cmd.Start() }
	return <-result
}

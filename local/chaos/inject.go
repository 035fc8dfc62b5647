package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// injector applies a schedule, and notes what it did.
type injector struct {
	*system
	note func(format string, args ...any)

	mu   sync.Mutex
	done []injected
}

// injected is a fault as it happened.
type injected struct {
	Fault
	from, to time.Time
	failed   bool // it could not be done
}

// run applies all faults, each at its time, and returns once all are over.
func (in *injector) run(ctx context.Context, plan []Fault) {
	began := time.Now()
	var all sync.WaitGroup
	for _, f := range plan {
		if !pause(ctx, time.Until(began.Add(f.At))) {
			break
		}
		all.Go(func() {
			from := time.Now()
			in.note("%s", f)
			err := in.apply(ctx, f)
			if err != nil {
				in.note("         not done: %s %s: %v", f.Kind, f.Target, err)
			}
			in.mu.Lock()
			in.done = append(in.done, injected{f, from, time.Now(), err != nil})
			in.mu.Unlock()
		})
	}
	all.Wait()
}

func (in *injector) apply(ctx context.Context, f Fault) error {
	var end func()
	switch f.Kind {
	case Kill, Stop:
		pid, err := in.pid(ctx, f.Target)
		if err != nil {
			return err
		}
		if f.Kind == Kill {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
		family := append(children(pid), pid)
		for _, p := range family {
			_ = syscall.Kill(p, syscall.SIGSTOP) // ESRCH: a child has just ended
		}
		end = func() {
			for _, p := range family {
				_ = syscall.Kill(p, syscall.SIGCONT) // the same
			}
		}
	case Restart:
		return in.rollout(ctx, f.Target)
	case Slow, Cut, Hang, Strand:
		if f.Target == "exchange" {
			end = in.market.fail(f.Kind)
		} else {
			end = in.links[f.Target].fail(f.Kind)
		}
	case Outage:
		end = in.market.spoil(f.Target, "error_5xx")
	case Rubbish:
		end = in.market.spoil(f.Target, f.Detail)
	case Errors:
		if err := in.brokerError(ctx, http.MethodPut, f.Detail); err != nil {
			return err
		}
		end = func() { _ = in.brokerError(ctx, http.MethodDelete, "") } // a broker that was killed has none
	case FailOver:
		return in.postgres.failOver(ctx)
	case FullDisk:
		var err error
		if end, err = in.postgres.fillDisk(); end == nil {
			return err
		}
	default:
		return fmt.Errorf("unknown fault %q", f.Kind)
	}
	pause(ctx, f.For)
	end()
	return nil
}

func (in *injector) pid(ctx context.Context, target string) (int, error) {
	switch target {
	case "postgres":
		return in.postgres.pid()
	case "redis":
		return in.redisPID(ctx)
	}
	return in.programs[target].PID(), nil
}

func (s *system) redisPID(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	info, err := s.redis.Info(ctx, "server").Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis: %w", err)
	}
	_, rest, _ := strings.Cut(info, "process_id:")
	line, _, _ := strings.Cut(rest, "\r\n")
	return strconv.Atoi(line)
}

// children returns the children of a process, which Linux alone tells. Those of Postgres are in sessions of their own.
func children(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	for _, file := range files {
		text, _ := os.ReadFile(file) //nolint:gosec // in /proc; a task that has ended has no children
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// rollout replaces one replica after the other. A replica that is not ready in time, because something else fails, holds up the next only
// for a while.
func (in *injector) rollout(ctx context.Context, function string) error {
	for n := range replicas {
		name := replicaName(function, n+1)
		p := in.programs[name]
		old := p.PID()
		if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
			return fmt.Errorf("end %s: %w", name, err)
		}
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		for p.PID() == old && pause(wait, 20*time.Millisecond) {
		}
		for !in.isReady(wait, name) && pause(wait, 50*time.Millisecond) {
		}
		cancel()
	}
	return nil
}

func (in *injector) isReady(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return in.request(ctx, http.MethodGet, in.urls[name]+"/readyz") == nil
}

func (in *injector) brokerError(ctx context.Context, method, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return in.request(ctx, method, in.admin+"/?error="+url.QueryEscape(name))
}

var errStatus = errors.New("not 200")

func (in *injector) request(ctx context.Context, method, target string) error {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // not read
	if resp.StatusCode != http.StatusOK {
		return errStatus
	}
	return nil
}

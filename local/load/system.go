package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/joho/godotenv"
	"github.com/redis/go-redis/v9"
)

// system is a running local system in a folder of its own, without its event sources: a row starts those once its backlog is
// produced.
type system struct {
	dir   string
	bin   string
	env   map[string]string
	pool  *pgxpool.Pool
	redis *redis.Client
	stop  func()
	fail  func(cause error) // ends the measurement
}

// functions lists the functions in the order of the report.
var functions = []string{"get-latest", "poll", "compute-ma", "dlq-inspector"}

// startSystem starts the backing services, the exchange and the built functions, and returns once they are ready.
func startSystem(ctx context.Context, binDir string, symbols int, fail func(error)) (_ *system, err error) {
	// Not under TMPDIR, which Postgres' user may be unable to enter.
	dir, err := os.MkdirTemp("/var/tmp", "marketdata-load-")
	if err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	s := &system{dir: dir, bin: binDir, fail: fail, stop: func() { _ = os.RemoveAll(dir) }} // best effort: it is a temporary folder
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // Postgres' user must be able to enter it; its files are private
		return nil, fmt.Errorf("set mode of data folder: %w", err)
	}
	if err := os.Symlink(binDir, filepath.Join(dir, "bin")); err != nil {
		return nil, fmt.Errorf("link programs: %w", err)
	}
	stop, err := s.spawn(ctx, "stack", dir, []string{"EXCHANGE_SYMBOLS=" + strconv.Itoa(symbols)}, filepath.Join(binDir, "local"), "-only=services,exchange,functions")
	if err != nil {
		return nil, err
	}
	remove := s.stop
	s.stop = func() { stop(); remove() }
	if err := s.awaitEnv(ctx); err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.New(ctx, s.env["DATABASE_URL"]); err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	options, err := redis.ParseURL(s.env["REDIS_URL"])
	if err != nil {
		return nil, fmt.Errorf("parse REDIS_URL: %w", err)
	}
	s.redis = redis.NewClient(options)
	s.stop = func() { s.pool.Close(); _ = s.redis.Close(); stop(); remove() }
	return s, nil
}

func (s *system) awaitEnv(ctx context.Context) error {
	return await(ctx, 60*time.Second, func() (bool, error) {
		env, err := godotenv.Read(filepath.Join(s.dir, "env"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		s.env = env
		return err == nil, err
	}, "the system did not become ready; its log ends with\n"+s.logTail("stack"))
}

// logTail returns the last lines of a child's log.
func (s *system) logTail(name string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, name+".log")) //nolint:gosec // our own file
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// spawn runs one of our programs in a process group of its own until stop is called. Its log goes to a file. If it ends before, so does the
// measurement.
func (s *system) spawn(ctx context.Context, name, localDir string, env []string, path string, args ...string) (stop func(), err error) {
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // our own file
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // our own programs
	for _, v := range os.Environ() {
		variable, _, _ := strings.Cut(v, "=")
		switch variable = strings.TrimSuffix(variable, "_FILE"); variable { // the shell's own stack must not be used
		case "DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "LOCAL_STACK", "DLQ_TOKEN", "COPIES", "LIVE":
		default:
			if !strings.HasSuffix(variable, "_DATABASE_URL") {
				cmd.Env = append(cmd.Env, v)
			}
		}
	}
	cmd.Env = append(append(cmd.Env, "LOCAL_DIR="+localDir, "DEMO=0", "GATEWAY_ADDR=127.0.0.1:0"), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		_ = log.Close() // nothing is buffered
		if ctx.Err() == nil {
			s.fail(fmt.Errorf("%s ended: %s", name, cmd.ProcessState))
		}
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// startSources starts the event sources as a separate process, as docker compose does. sinks replaces the URLs of functions.
func (s *system) startSources(ctx context.Context, sinks map[string]string) (stop func(), err error) {
	dir := filepath.Join(s.dir, "sources")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	env := []string{
		"DATABASE_URL=" + s.env["DATABASE_URL"], "REDIS_URL=" + s.env["REDIS_URL"], "KAFKA_BOOTSTRAP_SERVERS=" + s.env["KAFKA_BOOTSTRAP_SERVERS"],
	}
	for _, name := range functions {
		url := s.env[variable(name)]
		if other, ok := sinks[name]; ok {
			url = other
		}
		env = append(env, variable(name)+"="+url)
	}
	return s.spawn(ctx, "sources", dir, env, filepath.Join(s.bin, "local"), "-only=sources")
}

func variable(function string) string {
	return strings.ToUpper(strings.ReplaceAll(function, "-", "_")) + "_URL"
}

// metric returns the sum of a metric's samples that have all of the labels.
func (s *system) metric(ctx context.Context, function, name string, labels ...string) (float64, error) {
	body, err := get(ctx, s.env[variable(function)]+"/metrics")
	if err != nil {
		return 0, err
	}
	defer body.Close() //nolint:errcheck // read
	sum := 0.0
	lines := bufio.NewScanner(body)
lines:
	for lines.Scan() {
		line := lines.Text()
		rest, found := strings.CutPrefix(line, name)
		if !found || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, lines.Err()
}

// await calls ready every 250 ms until it returns true. It does not poll faster, because polling loads the measured programs, too.
func await(ctx context.Context, longest time.Duration, ready func() (bool, error), failure string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, longest, errors.New(failure))
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ready()
		if err != nil || ok {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("get %s: status %d", url, resp.StatusCode)
	}
	return resp.Body, nil
}

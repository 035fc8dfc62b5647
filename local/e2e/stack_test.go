//go:build integration

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/joho/godotenv"
	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// stack is a running local system with a folder of its own.
type stack struct {
	dir  string
	env  map[string]string
	cmd  *exec.Cmd
	out  *safeBuffer
	done chan error
	pool *pgxpool.Pool
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newDir returns a folder that Postgres' user can enter, with the built binaries in it.
func newDir(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' puts the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test', which builds the binaries first")
	dir, err := os.MkdirTemp("/var/tmp", "marketdata-e2e-") //nolint:usetesting // Postgres' user cannot enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	if broker, given := givenBroker(); given {
		t.Cleanup(func() { leaveNothing(t, broker, dir) }) // once the stack has stopped
	}
	require.NoError(t, os.Chmod(dir, 0o711)) // its files are private
	require.NoError(t, os.Symlink(bin, filepath.Join(dir, "bin")))
	return dir
}

// start runs bin/local on dir until the test ends, and returns once it is ready. The stack uses the given broker, if there is one, unless
// extra names another.
func start(t *testing.T, dir string, extra ...string) *stack {
	t.Helper()
	return startParts(t, dir, "", extra...)
}

// ownEnviron returns the environment without what would make stacks share their services.
func ownEnviron() (lines []string) {
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		switch {
		case slices.Contains([]string{
			"DATABASE_URL", "REDIS_URL", "KAFKA", "PRICE_EVENTS_TOPIC", "DEAD_LETTER_TOPIC", "CONSUMER_GROUP_PREFIX", "LOCAL_STACK", "DLQ_TOKEN",
			"COPIES", "LIVE",
		}, strings.TrimSuffix(name, "_FILE")):
		case strings.HasPrefix(name, "KAFKA_"), strings.HasSuffix(strings.TrimSuffix(name, "_FILE"), "_DATABASE_URL"):
		default:
			lines = append(lines, line)
		}
	}
	return lines
}

// startParts is start with only some of the parts, comma-separated; empty: all.
func startParts(t *testing.T, dir, parts string, extra ...string) *stack {
	t.Helper()
	s := &stack{dir: dir, out: &safeBuffer{}, done: make(chan error, 1)}
	s.cmd = exec.Command(filepath.Join(dir, "bin", "local"), "-only="+parts) // stopped below
	s.cmd.Env = ownEnviron()
	knative, err := filepath.Abs("../../knative")
	require.NoError(t, err)
	if broker, given := givenBroker(); given && !slices.ContainsFunc(extra, func(line string) bool { return strings.HasPrefix(line, "KAFKA") }) {
		s.cmd.Env = slices.Concat(s.cmd.Env, broker.Environ(), namesIn(dir))
	}
	s.cmd.Env = append(append(s.cmd.Env, "LOCAL_DIR="+dir, "GATEWAY_ADDR=127.0.0.1:0", "KNATIVE_DIR="+knative, "DEMO=0"), extra...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	_ = os.Remove(filepath.Join(dir, "env")) // left by a stack that was killed; it would look as if this one were ready
	require.NoError(t, s.cmd.Start())
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		s.stop(t)
		if t.Failed() {
			t.Log(s.out.String())
		}
	})
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "env"))
		return err == nil || len(s.done) > 0
	}, 60*time.Second, 10*time.Millisecond)
	s.readEnv(t)
	s.pool = newPool(t, s.env["DATABASE_URL"])
	return s
}

// newPool returns a pool for the test's own queries, which may go through a pooler.
func newPool(t *testing.T, databaseURL string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	require.NoError(t, err)
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	return pool
}

func (s *stack) readEnv(t *testing.T) {
	t.Helper()
	var err error
	s.env, err = godotenv.Read(filepath.Join(s.dir, "env"))
	require.NoError(t, err, s.out.String())
}

// stop asks the stack to stop and waits for it. Safe to call twice.
func (s *stack) stop(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if s.pool != nil {
		s.pool.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		t.Error("the stack did not stop in time")
	}
	s.cmd = nil
}

// pids returns the processes that run the stack's own binary of that name.
func (s *stack) pids(t *testing.T, name string) []int {
	t.Helper()
	var out []int
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if program, _, _ := strings.Cut(string(line), "\x00"); err == nil && program == filepath.Join(s.dir, "bin", name) {
			out = append(out, pid)
		}
	}
	return out
}

// postmaster returns the PID of the stack's Postgres.
func (s *stack) postmaster(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "postgres", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}

// call makes a request and returns the status, body and header of the response.
func call(t *testing.T, method, url string, body string, header ...string) (int, []byte, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, b, resp.Header
}

func (s *stack) get(t *testing.T, path string) (int, map[string]any) {
	t.Helper()
	status, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+path, "")
	var v map[string]any
	require.NoError(t, json.Unmarshal(body, &v), string(body))
	return status, v
}

// kafka returns the settings of the stack's brokers.
func (s *stack) kafka() kafkaclient.Config {
	var lines []string
	for name, value := range s.env {
		lines = append(lines, name+"="+value)
	}
	return kafkaclient.FromEnviron(lines)
}

// topics returns the names of the stack's topics.
func (s *stack) topics() priceevent.Topics {
	return priceevent.Topics{Events: s.env["PRICE_EVENTS_TOPIC"], DeadLetters: s.env["DEAD_LETTER_TOPIC"]}
}

// produce writes records to the topic of price events and waits for their acknowledgement.
func (s *stack) produce(t *testing.T, messages ...*kafka.Message) {
	t.Helper()
	p, err := kafka.NewProducer(s.kafka().Map(kafka.ConfigMap{"acks": "all", "message.max.bytes": 2 << 20, "enable.metrics.push": false}))
	require.NoError(t, err)
	defer p.Close()
	done := make(chan kafka.Event, len(messages))
	topic := s.topics().Events
	for _, m := range messages {
		m.TopicPartition.Topic = &topic
		if m.TopicPartition.Partition == 0 {
			m.TopicPartition.Partition = kafka.PartitionAny
		}
		require.NoError(t, p.Produce(m, done))
	}
	for range messages {
		m, ok := (<-done).(*kafka.Message)
		require.True(t, ok)
		require.NoError(t, m.TopicPartition.Error)
	}
}

// badPrice is a price event whose price is a string of the given text, so that it becomes a dead letter.
func badPrice(symbol, price string) string {
	return fmt.Sprintf(`{"symbol":%q,"price":%q,"timestamp":"2024-01-01T00:00:00Z","source":"test","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`, symbol, price)
}

// rows returns the rows of a query as text, or its error.
func (s *stack) rows(t *testing.T, query string, args ...any) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), query, args...)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		out = append(out, line)
	}
	if rows.Err() != nil {
		return []string{rows.Err().Error()}
	}
	return out
}

// eventually waits until a query returns the wanted rows.
func (s *stack) eventually(t *testing.T, want []string, query string, args ...any) {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		got = s.rows(t, query, args...)
		return strings.Join(got, "\n") == strings.Join(want, "\n")
	}, 60*time.Second, 50*time.Millisecond, "want %v, last got %v", want, &got)
}

//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// program is a process of a built function. It keeps its port over restarts.
type program struct {
	path, url string
	env       []string
	cmd       *exec.Cmd
	out       bytes.Buffer
}

func startProgram(t *testing.T, name string, env ...string) *program {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' has put the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test', which builds the binaries first")
	port := testenv.FreePort(t)
	p := &program{path: filepath.Join(bin, name), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	p.env = append(append(os.Environ(), "HOST=127.0.0.1", "LOG_LEVEL=warn", fmt.Sprint("PORT=", port)), env...)
	p.start(t)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(p.out.String())
		}
	})
	return p
}

func (p *program) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.path)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.env, &p.out, &p.out
	require.NoError(t, p.cmd.Start())
	require.Eventually(t, func() bool {
		resp, err := http.Get(p.url + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}, 20*time.Second, 2*time.Millisecond)
}

// kill ends the process without warning, as the loss of a node does, and starts another.
func (p *program) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	require.Error(t, p.cmd.Wait(), "killed")
	p.start(t)
}

func (p *program) post(t *testing.T, path, body string, header http.Header) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var v map[string]any
	_ = json.Unmarshal(text, &v) // 204 has none
	return resp.StatusCode, v
}

// A bulk replay with the deployed programs: inspector and compute-ma are killed in the middle of it, and connections to Postgres are
// dropped; 2,000 of 2,000 letters are resolved and counted, and the averages are exact.
func TestBulkReplayOfTheBuiltBinariesSurvivesKills(t *testing.T) {
	t.Parallel()
	const n, symbols = 2000, 20
	database := testenv.PostgresURL(t)
	pool, err := postgres.Open(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	brokers := testenv.Kafka(t)
	services := append(append(brokers.Environ(), testenv.Topics(t, brokers).Environ()...), "DATABASE_URL="+database+"&application_name=killed")
	function := startProgram(t, "compute-ma", services...)
	inspector := startProgram(t, "dlq-inspector", append(services, "COMPUTE_MA_URL="+function.url, "DLQ_TOKEN=secret")...)
	_, err = pool.Exec(t.Context(), `
		insert into dead_letters (id, exact, event_source, event_id, value_sha256, value, headers, attributes, content_type, code, reason, fingerprint, first_failed_at, last_failed_at)
		select gen_random_uuid(), false, '/s', i::text, sha256(i::text::bytea),
			convert_to(format('{"symbol":"S%s","price":%s.000000000000000001,"timestamp":"%sZ","source":"x","raw_response_id":"0190f5d8-0000-7000-8000-%s"}',
				i % $2, i, to_char(timestamp '2024-01-01' + i * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS'), lpad(i::text, 12, '0')), 'UTF8'),
			'[]', jsonb_build_object('specversion', '1.0', 'id', i::text, 'source', '/s', 'type', 'marketdata.price.observed.v1', 'trace id', 'x'),
			'application/json', 'x', 'x', 'x', now(), now()
		from generate_series(1, $1) i`, n, symbols)
	require.NoError(t, err)
	one := func(q string) (v int) {
		require.NoError(t, pool.QueryRow(t.Context(), q).Scan(&v))
		return v
	}
	// The answer to a tick comes only when no work is left, or with the end of the inspector; then the next tick follows.
	ticks := func() {
		pause := time.NewTicker(10 * time.Millisecond)
		defer pause.Stop()
		for t.Context().Err() == nil {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, inspector.url, strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/t"}, "Ce-Type": {"dev.knative.sources.ping"}}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
			<-pause.C
		}
	}
	var ticking sync.WaitGroup
	ticking.Go(ticks)
	t.Cleanup(ticking.Wait) // its context ends before
	const done = "select coalesce(sum(value::integer), 0) from dead_letter_replays, jsonb_each_text(outcomes)"
	reaches := func(count int) {
		require.Eventually(t, func() bool { return one(done) >= count }, 60*time.Second, time.Millisecond)
	}
	status, v := inspector.post(t, "/dlq/replays", `{"rate_per_second":1000}`, http.Header{"Authorization": {"Bearer secret"}, "Content-Type": {"application/json"}})
	require.Equal(t, http.StatusAccepted, status, v)

	reaches(200)
	killed, stood := time.Now(), one(done)
	inspector.kill(t)
	reaches(stood + replay.MaxInFlight + 1) // more than was in flight
	require.Less(t, time.Since(killed), replay.BulkLease, "the process in its place does not wait for the lease")
	reaches(700)
	function.kill(t)
	reaches(1200)
	_, err = pool.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'killed' and datname = current_database()")
	require.NoError(t, err)
	reaches(1500)
	inspector.kill(t)
	require.Eventually(t, func() bool { return one("select count(*) from dead_letter_replays where status = 'running'") == 0 }, 60*time.Second, time.Millisecond)
	require.Equal(t, n, one("select (outcomes->>'resolved')::integer from dead_letter_replays where status = 'completed'"))
	require.Equal(t, n, one(done))
	require.Equal(t, n, one("select count(*) from dead_letters where status = 'resolved' and replay_id is null and replay_count = 1"))
	require.Equal(t, n, one("select count(*) from price_points"))
	require.Equal(t, 3*symbols, one(`
		select count(*) from symbol_averages a
		where average = (select avg(price) from (
			select price from price_points p where p.symbol = a.symbol order by observed_at desc limit a.window_size) newest) and complete`))
	require.LessOrEqual(t, one("select max(n) from (select count(*) n from dead_letter_audit where action = 'replay' group by letter_id) c"), 4, "a replay for each kill, at most")
}

//go:build integration

package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// TestEveryErrorCode provokes every code of the README's table over HTTP on the running system, and compares status and problem
// document with the table. It fails if the table and the test do not have the same codes.
func TestEveryErrorCode(t *testing.T) {
	t.Parallel()
	e := &errorCodes{documented: documentedErrors(t), seen: map[string]bool{}}
	e.stack = start(t, newDir(t), "RATE_LIMIT_LATEST=10000/1s", "PROVIDER_TIMEOUT=1s", "FINNHUB_API_KEY=a-key-of-ours")
	e.operations = operations(t, e.env["GATEWAY_URL"])
	for _, surface := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"get-latest", e.getLatest}, {"poll", e.poll}, {"compute-ma", e.computeMA}, {"dlq-inspector", e.inspector}, {"all functions", e.common},
	} {
		if !t.Run(surface.name, surface.run) {
			return
		}
	}
	require.Greater(t, e.explained, 20)
	// A defect, and more histories at once than CPUs for longer than a request may take: tests of packages service and averages.
	e.seen["internal"], e.seen["overloaded"] = true, true
	for code := range e.documented {
		require.True(t, e.seen[code], "documented but never seen: %s", code)
	}
}

type errorCodes struct {
	*stack
	documented map[string]string // statuses by code, from the table
	seen       map[string]bool
	operations []operation
	explained  int // problems that were in the OpenAPI document
}

// documentedErrors reads the README's table. A row has one status for all of its codes, or one for each group in the same order.
func documentedErrors(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Errors\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	codes := map[string]string{}
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for i, group := range strings.Split(cells[1], "/") {
			statuses := strings.Split(cells[2], "/")
			for _, code := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(group, -1) {
				codes[code[1]] = statuses[min(i, len(statuses)-1)]
			}
		}
	}
	require.Greater(t, len(codes), 30)
	return codes
}

// want sends a request and expects the code with its status in the table.
func (e *errorCodes) want(t *testing.T, code, method, target, body string, header ...string) {
	t.Helper()
	status, answer, h := call(t, method, target, body, header...)
	e.check(t, code, status, answer, h)
	at, err := url.Parse(target)
	require.NoError(t, err)
	for _, op := range e.operations {
		if op.matches(method, at.Path) {
			require.Contains(t, op.Responses[fmt.Sprint(status)].Content["application/problem+json"].Examples, code, "%s %s has no example of it", method, op.path)
			e.explained++
		}
	}
}

func (e *errorCodes) check(t *testing.T, code string, status int, answer []byte, h http.Header) {
	t.Helper()
	what := fmt.Sprintf("%s: %s", code, answer)
	require.Equal(t, "application/problem+json", h.Get("Content-Type"), what)
	var problem struct {
		Type, Title, Code string
		Status            int
		RequestID         string `json:"request_id"`
	}
	require.NoError(t, json.Unmarshal(answer, &problem), what)
	require.Equal(t, code, problem.Code, what)
	require.Equal(t, status, problem.Status, what)
	require.Contains(t, e.documented[code], fmt.Sprint(status), what)
	require.NotEmpty(t, problem.Type, what)
	require.NotEmpty(t, problem.Title, what)
	require.Equal(t, h.Get("X-Request-ID"), problem.RequestID, what)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		require.Regexp(t, `^[1-9][0-9]*$`, h.Get("Retry-After"), what)
	}
	if status == http.StatusMethodNotAllowed {
		require.NotEmpty(t, h.Get("Allow"), what)
	}
	e.seen[code] = true
}

func (e *errorCodes) getLatest(t *testing.T) {
	t.Helper()
	base := e.env["GATEWAY_URL"] + "/prices/latest?"
	want := func(code, query string) {
		t.Helper()
		e.want(t, code, http.MethodGet, base+query, "")
	}
	want("invalid_symbol", "symbol=A%20B")
	want("unknown_provider", "symbol=AMZN&provider=nobody")
	want("invalid_parameter", "symbol=AMZN&symbol=IBM")
	want("symbol_not_found", "symbol=NOSUCH")
	cache := e.redis(t)
	for kind, code := range map[string]string{
		"html": "provider_malformed", "bad_price": "provider_malformed", "truncated": "provider_malformed", "bad_key": "provider_auth", "no_key": "provider_auth",
		"not_entitled": "provider_auth", "limit_minute": "provider_rate_limited", "error_5xx": "provider_unavailable", "timeout": "provider_timeout",
	} {
		e.misbehave(t, e.env["EXCHANGE_URL"], "finnhub", "AMZN", kind)
		want(code, "symbol=AMZN&provider=finnhub")
		e.healthy(t)
		// The error is shared for two seconds unless it is removed.
		require.NoError(t, cache.Del(t.Context(), "flight:failure:finnhub:AMZN").Err())
	}
	tx, err := e.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table outbox in share mode")
	require.NoError(t, err)
	want("storage_unavailable", "symbol=AMZN")
	require.NoError(t, tx.Rollback(t.Context()))

	limited := e.function(t, "get-latest", "RATE_LIMIT_LATEST=1/1m", "RATE_LIMIT_TIMEOUT=5s")
	ready(t, limited)
	status, _, _ := call(t, http.MethodGet, limited+"/prices/latest?symbol=NOSUCH", "")
	require.Equal(t, http.StatusNotFound, status)
	e.want(t, "rate_limited", http.MethodGet, limited+"/prices/latest?symbol=AMZN", "")
}

func (e *errorCodes) poll(t *testing.T) {
	t.Helper()
	base := e.env["GATEWAY_URL"] + "/prices/poll"
	json := []string{"Content-Type", "application/json"}
	status, _, _ := call(t, http.MethodPost, base, `{"symbols":["AMZN"],"interval":86400}`, append(json, "Idempotency-Key", "k")...)
	require.Equal(t, http.StatusAccepted, status)
	e.want(t, "idempotency_conflict", http.MethodPost, base, `{"symbols":["IBM"]}`, append(json, "Idempotency-Key", "k")...)
	e.want(t, "job_not_found", http.MethodGet, base+"/poll_none", "")
	e.want(t, "backfill_not_found", http.MethodGet, e.env["GATEWAY_URL"]+"/prices/backfill/bf_none", "")
	e.want(t, "no_history", http.MethodPost, e.env["GATEWAY_URL"]+"/prices/backfill", `{"symbols":["IBM"],"interval":"1d","start":"2020-01-01","provider":"finnhub"}`, json...)
	e.want(t, "unsupported_media_type", http.MethodPost, base, `{"symbols":["IBM"]}`, "Content-Type", "text/plain")
	e.want(t, "body_too_large", http.MethodPost, base, `{"symbols":["`+strings.Repeat("A", 1<<20)+`"]}`, json...)
	alone := e.function(t, "poll", "REDIS_URL=redis://127.0.0.1:1")
	ready(t, alone)
	e.want(t, "limiter_unavailable", http.MethodPost, alone+"/prices/poll", `{"symbols":["IBM"]}`, json...)
}

func (e *errorCodes) computeMA(t *testing.T) {
	t.Helper()
	base := e.env["GATEWAY_URL"] + "/averages/latest?"
	e.want(t, "average_not_found", http.MethodGet, base+"symbol=NEVER", "")
	e.want(t, "invalid_provider", http.MethodGet, base+"symbol=AMZN&provider=NO", "")
	// A replay gets its verdict as the status.
	for code, value := range map[string]string{
		"undecodable": "{", "no_data": "", "invalid_schema": `{}`,
		"invalid_price":     `{"symbol":"A","price":0,"timestamp":"2024-01-01T00:00:00Z","source":"s","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`,
		"invalid_timestamp": `{"symbol":"A","price":1,"timestamp":"1969-01-01T00:00:00Z","source":"s","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`,
	} {
		e.want(t, code, http.MethodPost, e.env["COMPUTE_MA_URL"]+"/", value, replayed("marketdata.price.observed.v1")...)
	}
	e.want(t, "invalid_type", http.MethodPost, e.env["COMPUTE_MA_URL"]+"/", "{}", replayed("somebody.elses")...)
}

func replayed(kind string) []string {
	return []string{
		"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/test", "Ce-Type", kind, "Ce-Replayid", "0190f5d8-0000-7000-8000-000000000002",
		"Content-Type", "application/json",
	}
}

func (e *errorCodes) inspector(t *testing.T) {
	t.Helper()
	e.produce(t, &kafka.Message{Value: []byte("poison")}, &kafka.Message{Value: []byte(`{"price": 12345678901234567890.5}`)})
	e.eventually(t, []string{"2"}, "select count(*)::text from dead_letters")
	letter := "/dlq/messages/" + e.rows(t, "select id::text from dead_letters where value = 'poison'")[0]
	digits := "/dlq/messages/" + e.rows(t, "select id::text from dead_letters where value <> 'poison'")[0]
	base, operator := e.env["GATEWAY_URL"], []string{"Authorization", "Bearer " + e.env["DLQ_TOKEN"], "Content-Type", "application/json"}
	e.want(t, "unauthorized", http.MethodGet, base+letter, "")
	e.want(t, "message_not_found", http.MethodGet, base+"/dlq/messages/0190f5d8-0000-7000-8000-000000000003", "", operator...)
	e.want(t, "not_discarded", http.MethodPost, base+letter+"/restore", "{}", operator...)
	e.want(t, "transform_failed", http.MethodPost, base+letter+"/replay", `{"transform":"."}`, operator...)
	e.want(t, "inexact", http.MethodPost, base+digits+"/replay", `{"transform":".price |= floor"}`, operator...)

	// The target of replays: first it is unreachable, then it takes longer than the replay's lease.
	var inspector string
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := e.pool.Exec(t.Context(), "update dead_letters set replay_expires_at = now() - interval '1 second' where status = 'replaying'")
		if err == nil {
			_, _, _ = call(t, http.MethodPost, inspector+"/", "{}", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/test", "Ce-Type", "dev.knative.sources.ping")
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer slow.Close()
	away := e.function(t, "dlq-inspector", "COMPUTE_MA_URL=http://127.0.0.1:1", "DLQ_TOKEN="+e.env["DLQ_TOKEN"], "MAX_REPLAYS=1",
		fmt.Sprintf("DLQ_TOKENS=reader:%x:read", sha256.Sum256([]byte("a reader's token"))))
	inspector = e.function(t, "dlq-inspector", "COMPUTE_MA_URL="+slow.URL, "DLQ_TOKEN="+e.env["DLQ_TOKEN"], "MAX_REPLAYS=1")
	ready(t, away, inspector)
	e.want(t, "read_only_token", http.MethodPost, away+letter+"/discard", "{}", "Authorization", "Bearer a reader's token", "Content-Type", "application/json")
	e.want(t, "replay_failed", http.MethodPost, away+letter+"/replay", "{}", operator...)
	e.want(t, "replay_lost", http.MethodPost, inspector+letter+"/replay", "{}", operator...)
	_, err := e.pool.Exec(t.Context(), "update dead_letters set replay_count = 1") // only verdicts count, and there was none
	require.NoError(t, err)
	e.want(t, "replay_limit", http.MethodPost, away+letter+"/replay", "{}", operator...)
	_, err = e.pool.Exec(t.Context(), "update dead_letters set exact = false, replay_count = 0")
	require.NoError(t, err)
	e.want(t, "not_exact", http.MethodPost, base+letter+"/replay", `{"target":"topic"}`, operator...)
	status, body, _ := call(t, http.MethodPost, base+letter+"/discard", "{}", operator...)
	require.Equal(t, http.StatusOK, status, string(body))
	e.want(t, "replay_not_found", http.MethodGet, base+"/dlq/replays/0190f5d8-0000-7000-8000-000000000003", "", operator...)
	status, _, header := call(t, http.MethodPost, base+"/dlq/replays", "{}", operator...)
	require.Equal(t, http.StatusAccepted, status)
	e.eventually(t, []string{"completed"}, "select status from dead_letter_replays")
	e.want(t, "not_running", http.MethodDelete, base+header.Get("Location"), "", operator...)
	e.want(t, "not_open", http.MethodPost, base+letter+"/replay", "{}", operator...)
}

func (e *errorCodes) common(t *testing.T) {
	t.Helper()
	gateway := e.env["GATEWAY_URL"]
	for _, function := range []string{"GET_LATEST_URL", "POLL_URL", "COMPUTE_MA_URL", "DLQ_INSPECTOR_URL"} {
		e.want(t, "route_not_found", http.MethodGet, e.env[function]+"/nothing", "")
		e.want(t, "method_not_allowed", http.MethodPut, e.env[function]+"/healthz", "")
	}
	for _, path := range []string{"/prices/history", "/averages/history"} {
		e.want(t, "not_acceptable", http.MethodGet, gateway+path+"?symbol=AMZN", "", "Accept", "image/png")
	}
	e.want(t, "foreign_origin", http.MethodPost, gateway+"/prices/poll", `{"symbols":["AMZN"]}`, "Content-Type", "text/plain", "Origin", "https://evil.example.com")
	status, body, header := incompleteBody(t, e.env["POLL_URL"])
	e.check(t, "incomplete_request", status, body, header)
	// The supervisor restarts a killed function. A request before that gets function_unavailable.
	require.Eventually(t, func() bool {
		e.kill(t, "compute-ma", e.env["COMPUTE_MA_URL"])
		status, body, header := call(t, http.MethodGet, gateway+"/averages/latest?symbol=AMZN", "")
		if status == http.StatusServiceUnavailable {
			e.check(t, "function_unavailable", status, body, header)
			return true
		}
		ready(t, e.env["COMPUTE_MA_URL"])
		return false
	}, 30*time.Second, 10*time.Millisecond)
}

// incompleteBody tries to create a job with a body that ends early.
func incompleteBody(t *testing.T, base string) (status int, body []byte, header http.Header) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // read whole
	_, err = io.WriteString(c, "POST /prices/poll HTTP/1.1\r\nHost: poll\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	tcp, ok := c.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, body, resp.Header
}

//go:build integration

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// TestHostileInput sends what attackers send: SQL in every string of every route, compressed bombs, deep JSON, paths and headers that are
// read differently by those who read them.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_LATEST=10000/1s", "RATE_LIMIT_POLL=10000/1s", "RATE_LIMIT_DEFAULT=10000/1s")
	s.produce(t, &kafka.Message{Key: []byte("EVIL"), Value: []byte(badPrice("EVIL", "abc"))})
	s.eventually(t, []string{"1"}, "select count(*)::text from dead_letters")
	for _, send := range []func(*testing.T, *stack){hostileSQL, hostilePaths, hostileHeaders, hostileBodies} {
		send(t, s)
	}
	for _, function := range []string{"get-latest", "poll", "compute-ma", "dlq-inspector"} {
		for _, pid := range s.pids(t, function) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			require.NoError(t, err)
			var most int
			_, err = fmt.Sscanf(string(regexp.MustCompile(`VmHWM:\s+\d+`).Find(status)), "VmHWM: %d", &most)
			require.NoError(t, err)
			require.Less(t, most, 256<<10, "%s: KiB at most", function)
		}
	}
}

// sqlTexts each mean something to a database that takes them for more than a value.
var sqlTexts = []string{`'; drop table dead_letters; --`, `' or '1'='1`, `%abc%`, `_____`, `\`, `$1`, `{"a"}`, `"`, `E'\x00'`, `a' || pg_sleep(9) || '`, `*/ select 1 /*`, `;`}

// bodiesOf has a valid body of each operation that takes one.
var bodiesOf = map[string]string{
	"POST /prices/poll":               `{"symbols":["AAPL"],"interval":60,"provider":"yfinance"}`,
	"POST /prices/backfill":           `{"symbols":["AAPL"],"provider":"yfinance","interval":"1d","start":"2024-01-01","end":"2024-01-05"}`,
	"POST /dlq/messages/{id}/replay":  `{"value":"x","value_encoding":"text","reason":"x"}`,
	"POST /dlq/messages/{id}/discard": `{"reason":"x"}`,
	"POST /dlq/messages/{id}/restore": `{"reason":"x"}`,
	"POST /dlq/replays":               `{"filter":{"fingerprint":"x","symbol":"x","topic":"x","q":"abc"},"reason":"x","transform":".","target":"function"}`,
	"POST /dlq/discards":              `{"filter":{"fingerprint":"x","symbol":"x","topic":"x","q":"abc"},"reason":"x"}`,
}

// hostileSQL compares the answer to each text with that to a harmless one: it is the same, or the text is refused as invalid. The tables
// stay as they are.
func hostileSQL(t *testing.T, s *stack) {
	t.Helper()
	const tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1"
	const letter = "select (id, status, value, code, reason)::text from dead_letters"
	before := append(s.rows(t, tables), s.rows(t, letter)...)
	tried := 0
	for _, op := range operations(t, s.env["GATEWAY_URL"]) {
		body := bodiesOf[op.method+" "+op.path]
		require.Equal(t, op.RequestBody != nil, body != "", "%s %s", op.method, op.path)
		for _, place := range placesOf(t, op, body) {
			if place == "body transform" {
				continue // a program, which never reaches the database
			}
			calm := s.answer(t, op, place, "zzzzz", body)
			for _, text := range sqlTexts {
				start := time.Now()
				got := s.answer(t, op, place, text, body)
				what := fmt.Sprintf("%s %s, %s: %s", op.method, op.path, place, text)
				require.Less(t, time.Since(start), 8*time.Second, what)
				if refused := got.status == 400 && (strings.HasPrefix(got.code, "invalid_") || got.code == "unknown_provider" || got.code == ""); !refused {
					require.Equal(t, calm, got, what)
				}
				tried++
			}
		}
	}
	require.Greater(t, tried, 500)
	require.Equal(t, before, append(s.rows(t, tables), s.rows(t, letter)...))
}

// placesOf returns where an operation takes strings: its parameters, and the members of its body as paths.
func placesOf(t *testing.T, op operation, body string) (places []string) {
	t.Helper()
	for _, p := range op.Parameters {
		if p.is("string") || p.is("array") {
			places = append(places, p.In+" "+p.Name)
		}
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case string:
			places = append(places, "body "+path)
		case []any:
			walk(path+".0", v[0])
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(strings.TrimPrefix(path+"."+name, "."), v[name])
			}
		}
	}
	if body != "" {
		var v any
		require.NoError(t, json.Unmarshal([]byte(body), &v))
		walk("", v)
	}
	return places
}

// reply is what matters of an answer. The body counts if the text selects what is in it, and is not repeated there.
type reply struct {
	status     int
	code, body string
}

// answer sends a request of an operation with a text at a place.
func (s *stack) answer(t *testing.T, op operation, place, text, body string) reply {
	t.Helper()
	in, name, _ := strings.Cut(place, " ")
	header := []string{"Authorization", "Bearer " + s.env["DLQ_TOKEN"], "Content-Type", "application/json"}
	replaced, extra := map[string]string{}, ""
	switch in {
	case "path":
		replaced[name] = text
	case "query":
		replaced[name], extra = "", name+"="+url.QueryEscape(text)
	case "header":
		header = append(header, name, text)
	case "body":
		body = with(t, body, strings.Split(name, "."), text)
	}
	method := op.method
	if strings.HasSuffix(op.path, "/stream") {
		method = http.MethodHead // the answer to GET does not end
	}
	status, got, _ := call(t, method, s.env["GATEWAY_URL"]+op.target(replaced, extra), body, header...)
	require.Less(t, status, 500, "%s %s %s %q: %s", op.method, op.path, place, text, got)
	var problem struct{ Code string }
	switch {
	case method == http.MethodHead:
		return reply{status: status}
	case status >= 400:
		require.NoError(t, json.Unmarshal(got, &problem))
		return reply{status: status, code: problem.Code}
	case method != http.MethodGet, in != "query", len(text) > 1 && strings.Contains(string(got), text):
		return reply{status: status}
	}
	return reply{status: status, body: string(got)}
}

// with returns a JSON document with a text at a path.
func with(t *testing.T, document string, path []string, text string) string {
	t.Helper()
	var root any
	require.NoError(t, json.Unmarshal([]byte(document), &root))
	at := root
	for i, name := range path {
		last := i == len(path)-1
		switch v := at.(type) {
		case map[string]any:
			if last {
				v[name] = text
			}
			at = v[name]
		case []any:
			if last {
				v[0] = text
			}
			at = v[0]
		}
	}
	out, err := json.Marshal(root)
	require.NoError(t, err)
	return string(out)
}

// raw sends bytes to an address and returns the response.
func raw(t *testing.T, address, request string) (int, string, http.Header) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "http://"))
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // only this response matters
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err, request)
	body, _ := io.ReadAll(resp.Body) // of HEAD and the like it is not what Content-Length says
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(body), resp.Header
}

// hostilePaths sends a good event through the gateway to what some reader may take for the event routes, which are not public.
func hostilePaths(t *testing.T, s *stack) {
	t.Helper()
	event := strings.ReplaceAll(badPrice("PATHS", "1"), `"1"`, "1")
	for _, target := range []string{
		"/", "//", "/dry-run", "//dry-run", "/./dry-run", "/averages/../dry-run", "/averages/%2e%2e/dry-run", "/averages/..%2fdry-run", "/averages%2f..%2fdry-run",
		"/averages/%2e%2e%2f", "/averages/latest/..%2f..%2f", "/averages/%2e%2e", "/averages/..;/dry-run", "/averages/%252e%252e/dry-run", "/averages/%00/../../",
		"/averages/..\\dry-run", "/dlq/../", "/dlq/%2e%2e/", "http://gateway/", "http://gateway/averages/../", "http://gateway//averages/..%2f", "/metrics/../", "/averages/latest/%2F..%2F..%2F",
	} {
		for _, method := range []string{http.MethodPost, http.MethodConnect, "post"} {
			status, body, header := raw(t, s.env["GATEWAY_URL"], fmt.Sprintf("%s %s HTTP/1.1\r\nHost: gateway\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\n"+
				"Ce-Type: marketdata.price.observed.v1\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, target, len(event), event))
			require.True(t, status >= 300 && status < 500, "%s %s: %d %s", method, target, status, body)
			if location := header.Get("Location"); location != "" {
				require.Regexp(t, `^/([^/\\]|$)`, location, "a redirect stays on this host")
			}
		}
	}
	for _, target := range []string{"/averages/%2e%2e/metrics", "/dlq/..%2fmetrics", "/prices/latest/%2e%2e/%2e%2e/readyz", "/prices/poll/%2e%2e%2f%2e%2e%2fmetrics"} {
		status, _, _ := raw(t, s.env["GATEWAY_URL"], "GET "+target+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
		require.Equal(t, http.StatusNotFound, status, target)
	}
	require.Equal(t, []string{"0"}, s.rows(t, "select count(*)::text from price_points where symbol = 'PATHS'"))
	require.Equal(t, []string{"1"}, s.rows(t, "select count(*)::text from dead_letters"))
}

// hostileHeaders tries to add a header to the response, and to pass as another client.
func hostileHeaders(t *testing.T, s *stack) {
	t.Helper()
	for name, request := range map[string]string{
		"query":        "GET /prices/latest?symbol=A%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: gateway\r\n",
		"path":         "GET /prices/poll/x%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: gateway\r\n",
		"token":        "GET /prices/history?symbol=A&page_token=%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: gateway\r\n",
		"request ID":   "GET /averages/latest?symbol=ZZ HTTP/1.1\r\nHost: gateway\r\nX-Request-ID: a%0d%0aX-Injected: 1\r\n",
		"line feed":    "GET /averages/latest?symbol=ZZ HTTP/1.1\r\nHost: gateway\r\nX-Request-ID: a\rX-Injected: 1\r\n",
		"folded":       "GET /averages/latest?symbol=ZZ HTTP/1.1\r\nHost: gateway\r\nX-Request-ID: a\r\n X-Injected: 1\r\n",
		"origin":       "GET /averages/latest?symbol=ZZ HTTP/1.1\r\nHost: gateway\r\nOrigin: http://x%0d%0aX-Injected: 1\r\n",
		"operator":     "GET /dlq/messages HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer x%0d%0aX-Injected: 1\r\n",
		"both lengths": "POST /prices/poll HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"two hosts":    "GET /averages/latest?symbol=ZZ HTTP/1.1\r\nHost: gateway\r\nHost: other\r\n",
	} {
		status, body, header := raw(t, s.env["GATEWAY_URL"], request+"Connection: close\r\n\r\n")
		require.True(t, status >= 400 && status < 500 || status == http.StatusNotImplemented, "%s: %d %s", name, status, body)
		require.Empty(t, header.Get("X-Injected"), name)
		require.NotContains(t, header.Get("X-Request-Id"), "Injected", name)
	}
}

// hostileBodies sends compressed bombs, deep JSON and repeated names to every route that takes a body, and as events and letters.
func hostileBodies(t *testing.T, s *stack) {
	t.Helper()
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	_, err := z.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	bomb := strings.Repeat(member.String(), 512) // half a GiB, in half a MiB
	deep := strings.Repeat(`{"a":`, 100_000)
	id := s.rows(t, "select id::text from dead_letters")[0]
	for operation, good := range bodiesOf {
		method, path, _ := strings.Cut(operation, " ")
		target := s.env["GATEWAY_URL"] + strings.ReplaceAll(path, "{id}", id)
		for _, c := range []struct {
			name, body, encoding string
			status               int
		}{
			{"gzip", bomb, "gzip", 415},
			{"deflate", bomb, "deflate", 415},
			{"unnamed bomb", bomb, "", 400},
			{"deep", deep, "", 400},
			{"deep array", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "", 400},
			{"repeated names", good[:len(good)-1] + "," + good[1:], "", 400},
		} {
			header := []string{"Content-Type", "application/json", "Authorization", "Bearer " + s.env["DLQ_TOKEN"]}
			if c.encoding != "" {
				header = append(header, "Content-Encoding", c.encoding)
			}
			status, body, h := call(t, method, target, c.body, header...)
			requireProblem(t, operation+": "+c.name, c.status, status, body, h)
		}
	}
	s.produce(t, &kafka.Message{Value: []byte(bomb)}, &kafka.Message{Value: []byte(deep)})
	s.eventually(t, []string{"undecodable", "undecodable"}, "select code from dead_letters where code <> 'invalid_price'")
	require.Equal(t, []string{"true"}, s.rows(t, "select bool_or(value = $1)::text from dead_letters", []byte(bomb)), "byte for byte")
	for _, id := range s.rows(t, "select id::text from dead_letters where code = 'undecodable'") {
		status, body, header := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/dlq/messages/"+id+"/replay", `{"transform":"."}`,
			"Content-Type", "application/json", "Authorization", "Bearer "+s.env["DLQ_TOKEN"])
		requireProblem(t, "transform", 400, status, body, header)
	}
}

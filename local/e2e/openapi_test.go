//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operation holds the parts of an OpenAPI operation that hostile requests are made from, and the examples of its responses.
type operation struct {
	method, path string
	Parameters   []parameter
	RequestBody  *struct {
		Content map[string]any
	}
	Responses map[string]struct {
		Content map[string]struct{ Examples map[string]any }
	}
}

// matches reports whether a request is one of the operation.
func (op operation) matches(method, path string) bool {
	pattern := regexp.MustCompile(`\\{[^}]*\\}`).ReplaceAllString(regexp.QuoteMeta(op.path), "[^/]+")
	return op.method == method && regexp.MustCompile("^"+pattern+"$").MatchString(path)
}

type parameter struct {
	Name     string
	In       string
	Required bool
	Schema   struct {
		Type any // a name, or a list of names
		Enum []any
	}
}

func (p parameter) is(kind string) bool { return strings.Contains(fmt.Sprint(p.Schema.Type), kind) }

// valid holds valid values of required parameters, so that a request fails only because of the parameter under test.
var valid = map[string]string{"symbol": "AAPL", "symbols": "AAPL", "id": "0190f5d8-0000-7000-8000-000000000001", "job_id": "poll_x", "backfill_id": "bf_x"}

// A request that violates the function's own OpenAPI document gets a problem document, never a 500 or a 2xx. The test covers every
// operation of all four functions: parameters that are missing, empty, repeated, oversized, of the wrong type or unknown; bodies that
// are absent, not JSON, of the wrong type, with an unknown member, oversized or of another media type; and an unsupported method.
func TestNegativeByOpenAPI(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_LATEST=10000/1s", "RATE_LIMIT_POLL=10000/1s", "RATE_LIMIT_DEFAULT=10000/1s", "RATE_LIMIT_TIMEOUT=5s")
	tried := 0
	for _, function := range []string{"GET_LATEST_URL", "POLL_URL", "COMPUTE_MA_URL", "DLQ_INSPECTOR_URL"} {
		base := s.env[function]
		for _, op := range operations(t, base) {
			for name, send := range hostile(op) {
				status, body, header := call(t, send.method, base+send.target, send.body, append(send.header, "Authorization", "Bearer "+s.env["DLQ_TOKEN"])...)
				requireProblem(t, fmt.Sprintf("%s %s: %s", op.method, op.path, name), send.status, status, body, header)
				tried++
			}
		}
	}
	require.Greater(t, tried, 200, "the documents have operations")
}

func requireProblem(t *testing.T, what string, want, status int, body []byte, header http.Header) {
	t.Helper()
	what += ": " + string(body[:min(len(body), 300)])
	require.GreaterOrEqual(t, status, 400, what)
	require.Less(t, status, 500, what)
	if want != 0 {
		require.Equal(t, want, status, what)
	}
	require.Equal(t, "application/problem+json", header.Get("Content-Type"), what)
	var problem struct {
		Type, Title, Code string
		Status            int
		RequestID         string `json:"request_id"`
	}
	require.NoError(t, json.Unmarshal(body, &problem), what)
	require.Equal(t, status, problem.Status, what)
	require.Equal(t, header.Get("X-Request-ID"), problem.RequestID, what)
	require.NotEmpty(t, problem.Type, what)
	require.NotEmpty(t, problem.Title, what)
	require.Regexp(t, `^[a-z][a-z0-9_]*$`, problem.Code, what)
	if status == http.StatusMethodNotAllowed {
		require.NotEmpty(t, header.Get("Allow"), what)
	}
}

func operations(t *testing.T, base string) []operation {
	t.Helper()
	status, body, _ := call(t, http.MethodGet, base+"/openapi.json", "")
	require.Equal(t, http.StatusOK, status)
	var document struct {
		Paths map[string]map[string]operation
	}
	require.NoError(t, json.Unmarshal(body, &document))
	var out []operation
	for path, methods := range document.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			out = append(out, op)
		}
	}
	return out
}

type request struct {
	method, target, body string
	header               []string
	status               int // expected; 0: any 4xx
}

// hostile returns requests that violate the operation's document, by name.
func hostile(op operation) map[string]request {
	out := map[string]request{}
	huge := strings.Repeat("A", 5000)
	add := func(name string, r request) {
		if r.method == "" {
			r.method = op.method
		}
		if op.RequestBody != nil && r.body == "" && r.header == nil {
			r.body, r.header = "{}", []string{"Content-Type", "application/json"}
		}
		out[name] = r
	}
	add("unknown parameter", request{target: op.target(nil, "no_such_parameter=1"), status: 400})
	add("another method", request{method: http.MethodPatch, target: op.target(nil, ""), status: 405})
	add("broken query", request{target: op.target(nil, "a=%zz"), status: 400})
	for _, p := range op.Parameters {
		switch p.In {
		case "path":
			add(p.Name+" oversized", request{target: op.target(map[string]string{p.Name: huge}, "")})
			add(p.Name+" malformed", request{target: op.target(map[string]string{p.Name: "\x00%"}, "")})
		case "query":
			if p.Required {
				add(p.Name+" missing", request{target: op.target(map[string]string{p.Name: ""}, ""), status: 400})
			}
			if p.Name != "page_token" { // an empty one means the first page
				add(p.Name+" empty", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"="), status: 400})
			}
			add(p.Name+" repeated", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"=5&"+p.Name+"=5"), status: 400})
			add(p.Name+" oversized", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"="+huge), status: 400})
			if p.is("integer") || p.is("boolean") || len(p.Schema.Enum) > 0 {
				add(p.Name+" of another type", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"=1.5x"), status: 400})
			}
			if p.is("integer") {
				add(p.Name+" beyond every bound", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"=99999999999999999999"), status: 400})
				add(p.Name+" negative", request{target: op.target(map[string]string{p.Name: ""}, p.Name+"=-1"), status: 400})
			}
		}
	}
	if op.RequestBody != nil {
		jsonType := []string{"Content-Type", "application/json"}
		for name, body := range map[string]string{
			"not JSON": "{", "an array": "[]", "a string": `"x"`, "unknown member": `{"no_such_member":1}`, "two documents": "{}{}", "other types": `{"symbols":5,"value":5,"reason":5}`,
		} {
			add("body: "+name, request{target: op.target(nil, ""), body: body, header: jsonType, status: 400})
		}
		add("body: another media type", request{target: op.target(nil, ""), body: "<x/>", header: []string{"Content-Type", "text/xml"}, status: 415})
		add("body: oversized", request{target: op.target(nil, ""), body: `{"reason":"` + strings.Repeat("x", 5<<20) + `"}`, header: jsonType, status: 413})
	}
	return out
}

// target returns the operation's path and query with valid values, some of them replaced. An empty replacement omits a query
// parameter.
func (op operation) target(replaced map[string]string, extra string) string {
	values := maps.Clone(valid)
	maps.Copy(values, replaced)
	path, query := op.path, []string{}
	for _, p := range op.Parameters {
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(values[p.Name]))
		case p.In == "query" && values[p.Name] != "" && (p.Required || p.Name != "symbols"): // where they are optional, symbol is there
			query = append(query, p.Name+"="+url.QueryEscape(values[p.Name]))
		}
	}
	if extra != "" {
		query = append(query, extra)
	}
	if slices.Sort(query); len(query) == 0 {
		return path
	}
	return path + "?" + strings.Join(query, "&")
}

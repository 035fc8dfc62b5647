package gateway

import (
	"bufio"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/local/balance"
)

// FuzzRoute sends any request line. What the gateway forwards reaches no route of a function that is not public, however the function's
// mux reads the path.
func FuzzRoute(f *testing.F) {
	for _, seed := range [][2]string{
		{"GET", "/prices/latest?symbol=A"},
		{"POST", "/averages/%2e%2e/dry-run"},
		{"POST", "/averages/..%2fdry-run"},
		{"POST", "//dry-run"},
		{"POST", "/averages//../dry-run"},
		{"CONNECT", "/averages/../dry-run"},
		{"GET", "http://evil.example/averages/../metrics"},
		{"GET", "http://evil.example//prices/latest"},
		{"OPTIONS", "*"},
		{"POST", "/averages/%00"},
		{"GET", "/dlq%2fmessages"},
		{"GET", "/dlq/..;/metrics"},
		{"POST", "/averages/x/%2e%2e%2f%2e%2e/"},
		{"GET", "/averages\\..\\metrics"},
		{"POST", "/averages/latest/..%2f..%2f"},
		{"GET", "/%61verages/latest"},
		{"GET", "/averages/latest#/../../metrics"},
		{"CONNECT", "h:80"},
	} {
		f.Add(seed[0], seed[1])
	}
	function := http.NewServeMux()
	for _, private := range []string{"POST /{$}", "POST /dry-run", "GET /metrics", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs/"} {
		function.Handle(private, http.NotFoundHandler())
	}
	var reached *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.UserAgent(), balance.ProbeAgent) { // the gateway's own, at any time
			reached = r
		}
	}))
	f.Cleanup(server.Close)
	targets := map[string][]string{}
	for _, route := range routes {
		targets[route.function] = []string{server.URL}
	}
	g, err := New(targets, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	require.NoError(f, err)
	f.Cleanup(g.Close)
	f.Fuzz(func(t *testing.T, method, target string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		r.RemoteAddr, reached = "192.0.2.1:1", nil
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		require.NotEqual(t, http.StatusInternalServerError, w.Code)
		if location := w.Header().Get("Location"); location != "" {
			require.Regexp(t, `^/([^/\\]|$)`, location, "a redirect stays on this host")
		}
		if reached == nil {
			return
		}
		_, pattern := function.Handler(reached)
		require.Empty(t, pattern, "%s %s", method, target)
		_, public := functionOf(reached.URL.Path)
		require.True(t, public)
		require.False(t, isUnclean(reached.URL.Path))
	})
}

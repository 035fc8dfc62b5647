package gateway_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"marketdata/local/gateway"
)

type backend struct {
	name string
	got  *http.Request
	down atomic.Bool
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	b.got = r
	if b.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path == "/openapi.json" {
		_, _ = w.Write([]byte(`{"paths":{"/prices/latest":{"x":"` + b.name + `"},"/prices/poll":{"x":"` + b.name + `"},"/dry-run":{}},"components":{"schemas":{"S` + b.name + `":{}}}}`))
		return
	}
	_, _ = w.Write([]byte(b.name))
}

func setup(t *testing.T) (http.Handler, map[string]*backend) {
	t.Helper()
	backends, targets := map[string]*backend{}, map[string][]string{}
	for _, name := range []string{"get-latest", "poll", "compute-ma", "dlq-inspector"} {
		b := &backend{name: name}
		server := httptest.NewServer(b)
		t.Cleanup(server.Close)
		backends[name], targets[name] = b, []string{server.URL}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	targets["dlq-inspector"] = []string{gone.URL}
	h, err := gateway.New(targets, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return h, backends
}

func do(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	h, _ := setup(t)
	for path, want := range map[string]string{
		"/prices/latest?symbol=A": "get-latest", "/prices/history": "get-latest", "/prices/poll": "poll", "/prices/poll/x/pause": "poll", "/averages/latest": "compute-ma",
	} {
		w := do(h, http.MethodGet, path)
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Equal(t, want, w.Body.String(), path)
	}
	for _, path := range []string{"/dry-run", "/readyz", "/prices", "/prices/latestx", "/averagesx"} {
		w := do(h, http.MethodPost, path)
		require.Equal(t, http.StatusNotFound, w.Code, path)
		require.Contains(t, w.Body.String(), `"code":"route_not_found"`)
	}
	require.Equal(t, http.StatusMethodNotAllowed, do(h, http.MethodPost, "/").Code, "events cannot be sent through it")
	w := do(h, http.MethodGet, "/dlq/messages")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), `"code":"function_unavailable"`)
}

func TestForwardedHeadersOfTheClientAreDropped(t *testing.T) {
	t.Parallel()
	h, backends := setup(t)
	do(h, http.MethodGet, "/prices/latest", "X-Forwarded-For", "1.1.1.1", "X-Forwarded-For", "2.2.2.2", "Forwarded", "for=3.3.3.3")
	require.Equal(t, []string{"192.0.2.1"}, backends["get-latest"].got.Header.Values("X-Forwarded-For"))
}

func TestMergedDocumentTakesEachPathFromItsFunction(t *testing.T) {
	t.Parallel()
	h, _ := setup(t)
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	require.NoError(t, json.Unmarshal(do(h, http.MethodGet, "/openapi.json").Body.Bytes(), &doc))
	require.Equal(t, "3.1.0", doc.OpenAPI)
	require.Equal(t, map[string]any{"x": "get-latest"}, doc.Paths["/prices/latest"])
	require.Equal(t, map[string]any{"x": "poll"}, doc.Paths["/prices/poll"])
	require.NotContains(t, doc.Paths, "/dry-run")
	require.Len(t, doc.Components.Schemas, 3)
}

func TestQueryIsForwardedUnchanged(t *testing.T) {
	t.Parallel()
	h, backends := setup(t)
	for _, query := range []string{"provider=%zz", "status=discarded;x=1", "symbol=%00", "symbol=\xff", "a=1&&b", "%", "=", "symbol=A+B%20C"} {
		r := httptest.NewRequest(http.MethodGet, "/prices/latest", nil)
		r.URL.RawQuery = query
		h.ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, query, backends["get-latest"].got.URL.RawQuery)
	}
}

func TestEncodedDotSegmentsAreRefused(t *testing.T) {
	t.Parallel()
	h, backends := setup(t)
	for _, path := range []string{"/averages/%2e%2e/dry-run", "/averages/..%2fdry-run", "/averages/%2e/latest", "/averages/x%2f%2fy"} {
		require.Equal(t, http.StatusNotFound, do(h, http.MethodPost, path).Code, path)
	}
	require.Nil(t, backends["compute-ma"].got)
}

func TestMergedDocumentIsStable(t *testing.T) {
	t.Parallel()
	h, backends := setup(t)
	first := do(h, http.MethodGet, "/openapi.json").Body.String()
	for range 20 {
		require.Equal(t, first, do(h, http.MethodGet, "/openapi.json").Body.String())
	}
	backends["poll"].down.Store(true)
	require.Equal(t, first, do(h, http.MethodGet, "/openapi.json").Body.String(), "a function that restarts keeps its routes")
}

func TestPages(t *testing.T) {
	t.Parallel()
	h, _ := setup(t)
	w := do(h, http.MethodGet, "/")
	require.Contains(t, w.Body.String(), ">Market data</a></h1>")
	require.Equal(t, http.StatusOK, do(h, http.MethodGet, "/docs/").Code)
	require.Equal(t, http.StatusTemporaryRedirect, do(h, http.MethodGet, "/docs").Code)
	for _, path := range []string{"/", "/docs/", "/healthz", "/openapi.json", "/page/app.js"} {
		require.Equal(t, http.StatusOK, do(h, http.MethodHead, path).Code, path)
		w := do(h, http.MethodPost, path)
		require.Equal(t, http.StatusMethodNotAllowed, w.Code, path)
		require.Equal(t, "GET, HEAD", w.Header().Get("Allow"), path)
		require.Contains(t, w.Body.String(), `"code":"method_not_allowed"`, path)
	}
}

// Errors of the gateway itself have a request ID, as all others do; functions get the client's ID.
func TestErrorsHaveARequestID(t *testing.T) {
	t.Parallel()
	h, backends := setup(t)
	for _, path := range []string{"/nothing", "/averages/%2e%2e", "/dlq/stats"} {
		for given, want := range map[string]string{"": `^[0-9a-f-]{36}$`, "mine-1": `^mine-1$`, "not usable": `^[0-9a-f-]{36}$`} {
			w := do(h, http.MethodGet, path, "X-Request-ID", given)
			require.GreaterOrEqual(t, w.Code, 400, path)
			var p struct {
				RequestID string `json:"request_id"`
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.Regexp(t, want, p.RequestID, path)
			require.Equal(t, []string{p.RequestID}, w.Header()["X-Request-Id"], path)
		}
	}
	do(h, http.MethodGet, "/averages/latest", "X-Request-ID", "mine-2")
	require.Equal(t, "mine-2", backends["compute-ma"].got.Header.Get("X-Request-ID"))
	require.Empty(t, do(h, http.MethodGet, "/averages/latest").Header()["X-Request-Id"], "the function adds its own ID to the response")
}

// A body that does not arrive is the client's error, not the function's.
func TestBrokenBodyIsTheClientsError(t *testing.T) {
	t.Parallel()
	h, _ := setup(t)
	for name, body := range map[string]io.Reader{
		"ends early": io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF)),
		"bad chunk":  iotest.ErrReader(errors.New("invalid byte in chunk length")),
	} {
		r := httptest.NewRequest(http.MethodPost, "/prices/poll", body)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusBadRequest, w.Code, name)
		require.Contains(t, w.Body.String(), "incomplete_request", name)
	}
}

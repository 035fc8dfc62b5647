// Package gateway is the public entry point of the local system. It routes the query paths to the functions, as an ingress does on a
// cluster, and serves the merged OpenAPI document. Event routes are not reachable through it.
package gateway

import (
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"marketdata/local/balance"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/webpage"
)

//go:embed page
var pageFiles embed.FS

// routes lists the public paths: each prefix and everything below it.
var routes = []struct{ prefix, function string }{
	{"/prices/latest", "get-latest"},
	{"/prices/history", "get-latest"},
	{"/prices/poll", "poll"},
	{"/prices/backfill", "poll"},
	{"/averages", "compute-ma"},
	{"/dlq", "dlq-inspector"},
}

// functionOf returns the function of a public path.
func functionOf(path string) (string, bool) {
	for _, r := range routes {
		if path == r.prefix || strings.HasPrefix(path, r.prefix+"/") {
			return r.function, true
		}
	}
	return "", false
}

// Gateway is the handler of all public paths.
type Gateway struct {
	mux       *http.ServeMux
	functions map[string]*balance.Proxy
	log       *slog.Logger
	documents *documents
}

// answerWait is how long a function may take to begin its response: longer than the platform allows.
const answerWait = 50 * time.Second

// New returns the gateway. targets holds the base URLs of each function's replicas. health tells the page, and
// Prometheus, how the pipeline is.
func New(targets map[string][]string, health http.Handler, log *slog.Logger) (*Gateway, error) {
	g := &Gateway{mux: http.NewServeMux(), functions: map[string]*balance.Proxy{}, log: log, documents: newDocuments()}
	for name, list := range targets {
		if len(list) == 0 {
			continue
		}
		proxy, err := balance.New(list, answerWait)
		if err != nil {
			return nil, err
		}
		proxy.ErrorHandler, proxy.ErrorLog = g.upstreamFailed, slog.NewLogLogger(log.Handler(), slog.LevelDebug)
		g.functions[name] = proxy
	}
	g.mux.HandleFunc("/", g.route)
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	webpage.Handle(g.mux, "/{$}", "/page/", files)
	for _, route := range []string{"/page/health", "/metrics", "/metrics/targets"} {
		g.mux.Handle("GET "+route, health)
	}
	g.mux.HandleFunc("GET /openapi.json", g.openAPI)
	api.Docs(g.mux)
	g.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-ID", request.ID(r.Context()))
		_, _ = w.Write([]byte("ok\n"))
	})
	return g, nil
}

// HandleFunc adds a route, before the first request.
func (g *Gateway) HandleFunc(pattern string, h http.HandlerFunc) { g.mux.HandleFunc(pattern, h) }

// ServeHTTP answers a request of a client.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mux.ServeHTTP(w, request.Identify(r))
}

// Close closes idle connections to the functions.
func (g *Gateway) Close() {
	for _, proxy := range g.functions {
		proxy.Close()
	}
}

func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	name, public := functionOf(r.URL.Path)
	if g.hasPage(r) {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, r, fault.New(fault.Invalid, fault.CodeMethodNotAllowed, "this path does not support %.20s", r.Method))
		return
	}
	if !public || isUnclean(r.URL.Path) {
		refuse(w, r, fault.New(fault.NotFound, fault.CodeRouteNotFound, "there is no route for this path"))
		return
	}
	proxy := g.functions[name]
	if proxy == nil {
		refuse(w, r, fault.New(fault.Unavailable, fault.CodeFunctionUnavailable, "the function %s is not running", name))
		return
	}
	body := &clientBody{ReadCloser: r.Body}
	r.Body = body
	proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, body)))
}

// hasPage reports whether the gateway itself answers GET for the path of a request, which has another method.
func (g *Gateway) hasPage(r *http.Request) bool {
	get := r.Clone(r.Context())
	get.Method = http.MethodGet
	_, pattern := g.mux.Handler(get)
	return strings.HasPrefix(pattern, "GET ")
}

// refuse answers with a problem document. It adds a request ID, as the functions do to their own responses.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("X-Request-ID", request.ID(r.Context()))
	problem.Write(w, r, err)
}

// clientBody remembers whether the client's body could not be read, because the proxy reports that as a failure of the function.
type clientBody struct {
	io.ReadCloser
	broken atomic.Bool
}

type bodyKey struct{} // context key of the request's *clientBody, since the proxy wraps Body

// Read reads the client's body.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, http.ErrBodyReadAfterClose) { // the proxy causes the latter itself
		b.broken.Store(true)
	}
	return n, err
}

// isUnclean reports whether a path has empty or dot segments. They can only come from percent-encoding, since the mux redirects
// others. A function might resolve such a path to a route that is not public.
func isUnclean(p string) bool { return strings.TrimSuffix(p, "/") != path.Clean(p) }

func (g *Gateway) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	if body, ok := r.Context().Value(bodyKey{}).(*clientBody); ok && body.broken.Load() {
		refuse(w, r, fault.Wrap(err, fault.Invalid, fault.CodeIncompleteRequest, "the request body is incomplete"))
		return
	}
	name, _ := functionOf(r.URL.Path)
	if errors.Is(err, balance.ErrNoneReady) {
		refuse(w, r, fault.Wrap(err, fault.Unavailable, fault.CodeFunctionUnavailable, "no replica of the function %s is ready", name).After(time.Second))
		return
	}
	g.log.WarnContext(r.Context(), "function did not respond", "function", name, "err", err)
	refuse(w, r, fault.Wrap(err, fault.Unavailable, fault.CodeFunctionUnavailable, "the function %s did not respond", name))
}

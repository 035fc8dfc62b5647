// Package gateway is the one public door of the local system: it routes the query paths to the functions, as an ingress
// does on a cluster, and shows the merged API document. Event routes are not reachable through it.
package gateway

import (
	"context"
	"embed"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/webpage"
)

//go:embed page
var pageFiles embed.FS

// routes are the public paths: a path itself and everything below it.
var routes = []struct{ prefix, function string }{
	{"/prices/latest", "get-latest"},
	{"/prices/history", "get-latest"},
	{"/prices/poll", "poll"},
	{"/averages", "compute-ma"},
	{"/dlq", "dlq-inspector"},
}

// functionOf gives the function of a public path.
func functionOf(path string) (string, bool) {
	for _, r := range routes {
		if path == r.prefix || strings.HasPrefix(path, r.prefix+"/") {
			return r.function, true
		}
	}
	return "", false
}

// copies are the addresses of one function's replicas, used in turn.
type copies struct {
	urls []*url.URL
	next atomic.Uint64
}

func (c *copies) pick() *url.URL { return c.urls[c.next.Add(1)%uint64(len(c.urls))] }

type gateway struct {
	functions map[string]*copies
	proxy     *httputil.ReverseProxy
	log       *slog.Logger
	documents *documents
}

// answerWait is how long a function may take until its answer begins: more than the platform lets it.
const answerWait = 30 * time.Second

// New makes the gateway over the functions' addresses (base URLs by function).
func New(targets map[string][]string, log *slog.Logger) (http.Handler, error) {
	g := &gateway{functions: map[string]*copies{}, log: log, documents: newDocuments()}
	for name, list := range targets {
		c := &copies{}
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil {
				return nil, err
			}
			c.urls = append(c.urls, u)
		}
		if len(c.urls) > 0 {
			g.functions[name] = c
		}
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			name, _ := functionOf(p.In.URL.Path)
			p.SetURL(g.functions[name].pick())
			p.Out.URL.Path, p.Out.URL.RawPath = p.In.URL.Path, p.In.URL.RawPath
			// As it came: the proxy drops what it cannot parse, and the function would answer another question.
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			// The peer is the client: whatever it says about others is dropped (Rewrite has removed the header).
			p.SetXForwarded()
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, ResponseHeaderTimeout: answerWait},
		ErrorHandler: g.upstreamFailed,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", g.route)
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	webpage.Handle(mux, "/{$}", "/page/", files)
	mux.HandleFunc("GET /openapi.json", g.openAPI)
	api.Docs(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { mux.ServeHTTP(w, request.Identify(r)) }), nil
}

func (g *gateway) route(w http.ResponseWriter, r *http.Request) {
	name, public := functionOf(r.URL.Path)
	if !public || isCrooked(r.URL.Path) {
		refuse(w, r, fault.New(fault.NotFound, "route_not_found", "there is nothing at this path"))
		return
	}
	if g.functions[name] == nil {
		refuse(w, r, fault.New(fault.Unavailable, "function_unavailable", "the function %s is not running", name))
		return
	}
	body := &clientBody{ReadCloser: r.Body}
	r.Body = body
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, body)))
}

// refuse answers in the functions' place. Their answers bring an id of their own.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("X-Request-ID", request.ID(r.Context()))
	problem.Write(w, r, err)
}

// clientBody remembers that the client's body could not be read: the proxy reports that as the function's failure.
type clientBody struct {
	io.ReadCloser
	broken atomic.Bool
}

type bodyKey struct{} // of a request's *clientBody: the proxy wraps Body

// Read reads the client's body.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, http.ErrBodyReadAfterClose) { // the latter is the proxy's own doing
		b.broken.Store(true)
	}
	return n, err
}

// isCrooked reports a path with empty or dot segments, which can only have come encoded: the mux redirects the others. A function
// might read it as another route than the one that made it public.
func isCrooked(p string) bool { return strings.TrimSuffix(p, "/") != path.Clean(p) }

func (g *gateway) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	if body, ok := r.Context().Value(bodyKey{}).(*clientBody); ok && body.broken.Load() {
		refuse(w, r, fault.Wrap(err, fault.Invalid, "incomplete_request", "the request's body did not arrive whole"))
		return
	}
	name, _ := functionOf(r.URL.Path)
	g.log.WarnContext(r.Context(), "function does not answer", "function", name, "err", err)
	refuse(w, r, fault.Wrap(err, fault.Unavailable, "function_unavailable", "the function %s does not answer", name))
}

// Package gateway is the one public door of the local system: it routes the query paths to the functions, as an ingress
// does on a cluster, and shows the merged API document. Event routes are not reachable through it.
package gateway

import (
	"embed"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"marketdata/shared/fault"
	"marketdata/shared/service"
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

// copies are the addresses of one function, used in turn.
type copies struct {
	urls []*url.URL
	next atomic.Uint64
}

func (c *copies) pick() *url.URL { return c.urls[c.next.Add(1)%uint64(len(c.urls))] }

type gateway struct {
	functions map[string]*copies
	proxy     *httputil.ReverseProxy
	log       *slog.Logger
	client    *http.Client
}

// New makes the gateway over the functions' addresses (base URLs by function).
func New(targets map[string][]string, log *slog.Logger) (http.Handler, error) {
	g := &gateway{functions: map[string]*copies{}, log: log, client: &http.Client{}}
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
			// The peer is the client: whatever it says about others is dropped (Rewrite has removed the header).
			p.SetXForwarded()
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 64},
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
	service.Docs(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return mux, nil
}

func (g *gateway) route(w http.ResponseWriter, r *http.Request) {
	name, public := functionOf(r.URL.Path)
	if !public {
		service.WriteProblem(w, r, fault.New(fault.NotFound, "route_not_found", "there is nothing at this path"))
		return
	}
	if g.functions[name] == nil {
		service.WriteProblem(w, r, fault.New(fault.Unavailable, "function_unavailable", "the function %s is not running", name))
		return
	}
	g.proxy.ServeHTTP(w, r)
}

func (g *gateway) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	name, _ := functionOf(r.URL.Path)
	g.log.WarnContext(r.Context(), "function does not answer", "function", name, "err", err)
	service.WriteProblem(w, r, fault.Wrap(err, fault.Unavailable, "function_unavailable", "the function %s does not answer", name))
}

// openAPI merges the functions' documents: their public paths and the schemas, which are one and the same where the
// names are (problem documents).
func (g *gateway) openAPI(w http.ResponseWriter, r *http.Request) {
	paths, schemas, security := map[string]any{}, map[string]any{}, map[string]any{}
	for name, c := range g.functions {
		doc, err := g.fetch(r, c.pick().String()+"/openapi.json")
		if err != nil {
			g.log.WarnContext(r.Context(), "no API document", "function", name, "err", err)
			continue
		}
		for path, item := range doc.Paths {
			if owner, public := functionOf(path); public && owner == name {
				paths[path] = item
			}
		}
		for schema, v := range doc.Components.Schemas {
			schemas[schema] = v
		}
		for scheme, v := range doc.Components.SecuritySchemes {
			security[scheme] = v
		}
	}
	components := map[string]any{"schemas": schemas}
	if len(security) > 0 {
		components["securitySchemes"] = security
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error means that the client went away
		"openapi":    "3.1.0",
		"info":       map[string]any{"title": "Market data", "version": "1.0.0", "description": "Prices in, exact moving averages out."},
		"paths":      paths,
		"components": components,
	})
}

type document struct {
	Paths      map[string]any `json:"paths"`
	Components struct {
		Schemas         map[string]any `json:"schemas"`
		SecuritySchemes map[string]any `json:"securitySchemes"`
	} `json:"components"`
}

func (g *gateway) fetch(r *http.Request, target string) (document, error) {
	var doc document
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, nil)
	if err != nil {
		return doc, err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return doc, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	return doc, json.NewDecoder(resp.Body).Decode(&doc)
}

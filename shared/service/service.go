// Package service is the HTTP server of a function: life cycle, settings, health, request ids, logs and metrics. It knows nothing of
// prices, and nothing of OpenAPI: that is package api.
//
// Start at [New], mount routes on Mux, then [Service.Run].
package service

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Check is a dependency that must answer before the function is ready.
type Check struct {
	Name string
	Ping func(ctx context.Context) error
	// Optional dependencies are checked and named, but the function is ready without them.
	Optional bool
}

// Middleware wraps a handler.
type Middleware = func(http.Handler) http.Handler

// Service is the HTTP server of one function.
type Service struct {
	Mux     *http.ServeMux
	Metrics *metrics.Set
	Log     *slog.Logger
	// MaxHeaderBytes bounds a request's headers; 0 means 1 MiB. Routes that take events need more: see package ingress.
	MaxHeaderBytes int

	config   Config
	checks   []Check
	observe  *observer
	stopping chan struct{}
	deadline time.Time // of the stop; written before stopping is closed
}

// NewLogger returns the JSON logger of a function, on stdout. From then on all times of the process are UTC: the first local time
// would read the system's time zones. Call it once, first.
func NewLogger(function string, level slog.Level) *slog.Logger {
	time.Local = time.UTC
	return slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("function", function)
}

// New returns a server with /healthz, /readyz, /metrics, and OpenFaaS' /_/health and /_/ready.
func New(config Config, log *slog.Logger, checks ...Check) *Service {
	s := &Service{Mux: http.NewServeMux(), Metrics: metrics.NewSet(), Log: log, config: config, checks: checks, stopping: make(chan struct{})}
	s.observe = &observer{mux: s.Mux, log: log, metrics: s.Metrics, routine: summaries{log: log}}
	alive := func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	s.Mux.HandleFunc("GET /healthz", alive)
	s.Mux.HandleFunc("GET /_/health", alive)
	s.Mux.HandleFunc("GET /readyz", s.ready)
	s.Mux.HandleFunc("GET /_/ready", s.ready)
	s.Mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		metrics.ExposeMetadata(true) // the types
		s.Metrics.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
	return s
}

// Origins returns the web origins whose pages may read the query routes.
func (s *Service) Origins() Origins {
	origins, _ := ParseOrigins(s.config.CORSOrigins) // errors are those of Validate
	return origins
}

// Needs adds dependencies that /readyz asks. Call it before the server runs.
func (s *Service) Needs(checks ...Check) { s.checks = append(s.checks, checks...) }

// Handler returns the whole server as a handler.
func (s *Service) Handler() http.Handler { return s.observe }

// ready answers 200 once every dependency that is not optional answers, else 503; each is named.
func (s *Service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	states := make([]string, len(s.checks))
	var wg sync.WaitGroup
	for i, c := range s.checks {
		wg.Go(func() {
			states[i] = "ok"
			if err := c.Ping(ctx); err != nil {
				states[i] = "unavailable" // the error's text may name hosts, so it is only logged
				s.Log.DebugContext(ctx, "dependency is not ready", "dependency", c.Name, "err", err)
			}
		})
	}
	wg.Wait()
	status, answer, named := http.StatusOK, "ready", map[string]string{}
	for i, c := range s.checks {
		named[c.Name] = states[i]
		if states[i] != "ok" && !c.Optional {
			status, answer = http.StatusServiceUnavailable, "not_ready"
		}
	}
	writeJSON(w, status, map[string]any{"status": answer, "checks": named})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error here means that the client went away
}

// Package service is the HTTP server of a function: life cycle, settings, health, request ids, logs and metrics. It knows nothing of
// prices, and nothing of OpenAPI: that is package api.
//
// Start at [New], mount routes on Mux, then [Service.Run].
package service

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/metric"
)

// Middleware wraps a handler.
type Middleware = func(http.Handler) http.Handler

// Service is the HTTP server of one function.
type Service struct {
	Mux     *http.ServeMux
	Metrics *metrics.Set
	Log     *slog.Logger
	// MaxHeaderBytes bounds a request's headers; 0 means 1 MiB. Routes that take events need more: see package ingress.
	MaxHeaderBytes int

	config       Config
	dependencies []*dependency
	observe      *observer
	noteReady    atomic.Pointer[func()] // when /readyz answers 200; nil: the server does not run
	leaving      chan struct{}          // closed at SIGTERM, ShutdownDelay before stopping
	stopping     chan struct{}
	deadline     time.Time // of the stop; written before stopping is closed
}

// NewLogger returns the JSON logger of a function, on stdout. From then on all times of the process are UTC: the first local time
// would read the system's time zones. Call it once, first.
func NewLogger(function string, level slog.Level) *slog.Logger {
	time.Local = time.UTC
	return slog.New(traced{slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level})}).With("function", function)
}

// New returns a server with /healthz, /readyz, /metrics, and OpenFaaS' /_/health and /_/ready.
func New(config Config, log *slog.Logger, checks ...Check) *Service {
	s := &Service{Mux: http.NewServeMux(), Metrics: metrics.NewSet(), Log: log, config: config, leaving: make(chan struct{}), stopping: make(chan struct{})}
	metric.Describe(help)
	s.Needs(checks...)
	s.observe = &observer{
		mux: s.Mux, log: log, metrics: s.Metrics, defects: s.Metrics.NewCounter("marketdata_internal_errors_total"),
		routine: summaries{log: func(route string, n int, times ...any) {
			log.Info("events", append([]any{"route", route, "events", n}, times...)...)
		}},
		refused: summaries{log: func(route string, n int, times ...any) {
			log.Warn("requests refused: overloaded", append([]any{"route", route, "requests", n}, times...)...)
		}},
	}
	alive := func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	s.Mux.HandleFunc("GET /healthz", alive)
	s.Mux.HandleFunc("GET /_/health", alive)
	s.Mux.HandleFunc("GET /readyz", s.ready)
	s.Mux.HandleFunc("GET /_/ready", s.ready)
	s.Mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		s.askAll()
		_ = metric.Write(w, s.Metrics) // an error here means that the client went away
	})
	return s
}

// Origins returns the web origins whose pages may read the query routes.
func (s *Service) Origins() Origins {
	origins, _ := ParseOrigins(s.config.CORSOrigins) // errors are those of Validate
	return origins
}

// Handler returns the whole server as a handler.
func (s *Service) Handler() http.Handler { return s.observe }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error here means that the client went away
}

// Package service is the HTTP server of a function: life cycle, settings, health, request ids, logs and metrics. It knows nothing of
// prices, and nothing of OpenAPI: that is package api.
//
// Start at [New], mount routes on Mux, then [Service.Run].
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Config has the settings that every function reads from the environment. Functions embed it in their own.
type Config struct {
	Host            string        `envconfig:"HOST"`                           // address to bind; empty: all, which Knative's probes need
	Port            int           `envconfig:"PORT" default:"8080"`            // set by Knative
	LogLevel        slog.Level    `envconfig:"LOG_LEVEL" default:"info"`       // debug, info, warn, error
	ShutdownTimeout time.Duration `envconfig:"SHUTDOWN_TIMEOUT" default:"10s"` // for requests in flight at SIGTERM
	// ShutdownDelay keeps serving after SIGTERM: 0 on Knative, healthcheck_interval under OpenFaaS.
	ShutdownDelay time.Duration `envconfig:"SHUTDOWN_DELAY" default:"0s"`
	CORSOrigins   Origins       `envconfig:"CORS_ORIGINS"` // whose pages may read through a browser; empty: none
}

// longest bounds settings that are durations; a longer one is a mistake.
const longest = 24 * time.Hour

// Validate reports all faults at once.
func (c Config) Validate() error {
	errs := []error{
		c.CORSOrigins.Validate(), DurationIn("SHUTDOWN_TIMEOUT", c.ShutdownTimeout, time.Millisecond, longest), DurationIn("SHUTDOWN_DELAY", c.ShutdownDelay, 0, longest),
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("PORT: %d is not within 0 to 65535", c.Port))
	}
	return errors.Join(errs...)
}

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
func (s *Service) Origins() Origins { return s.config.CORSOrigins }

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

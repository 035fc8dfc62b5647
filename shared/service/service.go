// Package service is what every function's HTTP server has in common: lifecycle, health, request ids, logs, metrics,
// problem documents, the OpenAPI document with its page, and the ingress of CloudEvents. It knows nothing of prices.
//
// Start at [New], mount routes on Mux and API, then [Service.Run].
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/swaggest/swgui/v5emb"
)

// Config is what every function reads from the environment, embedded in its own config.
type Config struct {
	Host            string        `envconfig:"HOST"`                           // address to bind; empty: all, which Knative's probes need
	Port            int           `envconfig:"PORT" default:"8080"`            // set by Knative
	LogLevel        slog.Level    `envconfig:"LOG_LEVEL" default:"info"`       // debug, info, warn, error
	ShutdownTimeout time.Duration `envconfig:"SHUTDOWN_TIMEOUT" default:"10s"` // for requests in flight at SIGTERM
	// ShutdownDelay keeps serving after SIGTERM: 0 on Knative, healthcheck_interval under OpenFaaS.
	ShutdownDelay time.Duration `envconfig:"SHUTDOWN_DELAY" default:"0s"`
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, errors.New("PORT must be 0 to 65535"))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, errors.New("SHUTDOWN_TIMEOUT must be positive"))
	}
	if c.ShutdownDelay < 0 {
		errs = append(errs, errors.New("SHUTDOWN_DELAY must not be negative"))
	}
	return errors.Join(errs...)
}

// Check is one dependency that must answer before the function is ready.
type Check struct {
	Name string
	Ping func(ctx context.Context) error
	// Optional dependencies are asked and named, but the function is ready without them.
	Optional bool
}

// Service is one function's HTTP server.
type Service struct {
	Mux     *http.ServeMux
	API     huma.API
	Metrics *prometheus.Registry
	Log     *slog.Logger
	config  Config
	checks  []Check
	observe *observer
}

// NewLogger makes the JSON logger of a function on stdout.
func NewLogger(function string, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("function", function)
}

// New makes a server with /healthz, /readyz, /metrics, /openapi.json, /docs and OpenFaaS' /_/health and /_/ready.
func New(name, description string, config Config, log *slog.Logger, checks ...Check) *Service {
	s := &Service{Mux: http.NewServeMux(), Metrics: prometheus.NewRegistry(), Log: log, config: config, checks: checks}
	s.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.observe = newObserver(s.Mux, s.Metrics, log)
	s.API = NewAPI(s.Mux, name, description)
	alive := func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	s.Mux.HandleFunc("GET /healthz", alive)
	s.Mux.HandleFunc("GET /_/health", alive)
	s.Mux.HandleFunc("GET /readyz", s.ready)
	s.Mux.HandleFunc("GET /_/ready", s.ready)
	s.Mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}))
	s.Mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.API.OpenAPI())
	})
	docs := sync.OnceValue(func() http.Handler { return v5emb.New(name, "/openapi.json", "/docs/") })
	s.Mux.HandleFunc("GET /docs", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/docs/", http.StatusFound) })
	s.Mux.HandleFunc("GET /docs/", func(w http.ResponseWriter, r *http.Request) { docs().ServeHTTP(w, r) })
	return s
}

// Handler is the whole server as a handler: routes inside request id, log line, metrics and problem documents.
func (s *Service) Handler() http.Handler { return s.observe }

// gcPercent is how much garbage may gather, in percent of what lives: a function keeps a few megabytes alive, and to collect
// each time as much again has gathered takes a tenth of its time under load. GOGC in the environment goes before it.
const gcPercent = 400

func tuneGC() {
	if set := debug.SetGCPercent(gcPercent); set != 100 { // 100: Go's default
		debug.SetGCPercent(set)
	}
}

// Run serves until ctx ends, then stops accepting, lets requests in flight finish within ShutdownTimeout, and returns
// nil. It logs the address it listens on.
func (s *Service) Run(ctx context.Context) error {
	tuneGC()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.config.Host, fmt.Sprint(s.config.Port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	s.Log.Info("listening", "addr", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if s.config.ShutdownDelay > 0 {
		s.Log.Info("still serving before shutdown", "delay_ms", s.config.ShutdownDelay.Milliseconds())
		time.Sleep(s.config.ShutdownDelay)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	s.Log.Info("stopped")
	return nil
}

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
				states[i] = "unavailable" // the error's text may name hosts: it goes to the log
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

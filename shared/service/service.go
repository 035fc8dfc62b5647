// Package service is what every function's HTTP server has in common: lifecycle, health, request ids, logs, metrics,
// problem documents, the OpenAPI document with its page, and the ingress of CloudEvents. It knows nothing of prices.
//
// Start at [New], mount routes on Mux and with [Handle], then [Service.Run].
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
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
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
	Metrics *metrics.Set
	Log     *slog.Logger
	// MaxHeaderBytes bounds a request's headers; 0 is 1 MiB. Routes that take events need more: see ingress.
	MaxHeaderBytes int

	config   Config
	checks   []Check
	observe  *observer
	api      api
	built    func() built // builds the API, once
	stopping chan struct{}
}

// NewLogger makes the JSON logger of a function on stdout. Its times are UTC, and so are all of the process from here on: the
// first local one would read the system's time zones. Call it once, first.
func NewLogger(function string, level slog.Level) *slog.Logger {
	time.Local = time.UTC
	return slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level})).With("function", function)
}

// New makes a server with /healthz, /readyz, /metrics, /openapi.json, /docs and OpenFaaS' /_/health and /_/ready.
func New(name, description string, config Config, log *slog.Logger, checks ...Check) *Service {
	tuneGC() // before there are other threads to stop
	s := &Service{Mux: http.NewServeMux(), Metrics: metrics.NewSet(), Log: log, config: config, checks: checks, stopping: make(chan struct{})}
	s.observe = &observer{s.Mux, log, s.Metrics}
	s.built = sync.OnceValue(func() built { return s.api.build(name, description) })
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
	s.Mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.OpenAPI())
	})
	Docs(s.Mux)
	return s
}

// Handler is the whole server as a handler: routes inside request id, log line, metrics and problem documents.
func (s *Service) Handler() http.Handler { return s.observe }

// Stopping is closed when the function is told to stop: long work in flight should come to its end then.
func (s *Service) Stopping() <-chan struct{} { return s.stopping }

// gcPercent is how much garbage may gather, in percent of what lives: a function keeps a few megabytes alive, and to collect
// each time as much again has gathered takes a tenth of its time under load. GOGC in the environment goes before it.
const gcPercent = 400

func tuneGC() {
	if set := debug.SetGCPercent(gcPercent); set != 100 { // 100: Go's default
		debug.SetGCPercent(set)
	}
}

// Listen takes the function's port. Call it first: a port that is taken is known before anything is opened, and who connects
// while the function is still being put together waits a moment instead of being refused.
func Listen(ctx context.Context, config Config) (net.Listener, error) {
	var l net.ListenConfig
	l.SetMultipathTCP(false) // nobody comes by two paths, and to ask the kernel for it takes longer than to listen
	listener, err := l.Listen(ctx, "tcp", net.JoinHostPort(config.Host, fmt.Sprint(config.Port)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}

// Run serves on listener until SIGTERM or SIGINT comes or ctx ends, then stops accepting, lets requests in flight finish
// within ShutdownTimeout, and returns nil. It logs the address it listens on.
func (s *Service) Run(ctx context.Context, listener net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // TLS, and HTTP/2 with it, end at the platform's proxy
	server := &http.Server{
		Handler:           s.Handler(),
		Protocols:         &protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    s.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.stopAtTheEnd(ctx, server, listener.Addr()) }()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-ended
}

// stopAtTheEnd waits for the end and shuts the server down. What it does before that takes a while on a process that has just
// begun, so it does it beside the first request; until then a signal ends the process at once.
func (s *Service) stopAtTheEnd(ctx context.Context, server *http.Server, addr net.Addr) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s.Log.Info("listening", "addr", addr.String())
	<-ctx.Done()
	if s.config.ShutdownDelay > 0 {
		s.Log.Info("still serving before shutdown", "delay_ms", s.config.ShutdownDelay.Milliseconds())
		time.Sleep(s.config.ShutdownDelay)
	}
	close(s.stopping)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
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

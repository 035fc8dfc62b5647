package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"marketdata/local/exchange"
	"marketdata/local/gateway"
	"marketdata/local/services"
	"marketdata/local/sources"
	"marketdata/local/supervisor"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/service"
)

// parts lists the values of -only, in the order in which the parts start.
var parts = []string{"services", "exchange", "functions", "sources", "gateway"}

// stack is a running system. Parts stop in the reverse order of their start.
type stack struct {
	cfg    config
	out    io.Writer
	only   map[string]bool
	stops  []func(context.Context)
	env    envFile
	urls   map[string][]string // addresses of each function's replicas
	gate   net.Listener
	binDir string
}

// A stop takes at most 15 s, whatever hangs. The supervisor gives the functions 10.5 s; the services have the rest.
const (
	stopTimeout    = 14500 * time.Millisecond
	sourcesTimeout = 3 * time.Second
)

// run starts the system, writes its addresses to LOCAL_DIR/env once it is ready, and waits for ctx to end. restore restores the
// default handling of signals, so that a second Ctrl-C ends the program at once.
func run(ctx context.Context, restore func(), args []string) (err error) {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	s := &stack{cfg: cfg, out: &syncWriter{w: os.Stdout}, urls: map[string][]string{}}
	if err := s.flags(args); err != nil {
		return err
	}
	unlock, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	defer func() {
		restore()
		s.say("stopping")
		_ = os.Remove(s.envPath()) // absent if we never became ready
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		for i := len(s.stops) - 1; i >= 0; i-- {
			s.stops[i](end)
		}
		s.say("stopped")
	}()
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted during the start, which caused the error
		}
		return err
	}
	<-ctx.Done()
	return nil
}

func (s *stack) flags(args []string) error {
	set := flag.NewFlagSet("local", flag.ContinueOnError)
	only := set.String("only", "", "run only these parts, comma-separated: "+strings.Join(parts, ","))
	if err := set.Parse(args); err != nil {
		return err
	}
	s.only = map[string]bool{}
	for _, p := range parts {
		s.only[p] = *only == ""
	}
	for _, p := range strings.Split(*only, ",") {
		if p == "" {
			continue
		}
		if _, known := s.only[p]; !known {
			return fmt.Errorf("-only: unknown part %q (one of %s)", p, strings.Join(parts, ", "))
		}
		s.only[p] = true
	}
	return nil
}

// prepare takes what is most likely to be unavailable first: the folder, its lock, and the gateway's port.
func (s *stack) prepare(ctx context.Context) (unlock func(), err error) {
	if s.cfg.Dir, err = filepath.Abs(s.cfg.Dir); err != nil {
		return nil, fmt.Errorf("LOCAL_DIR: %w", err)
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o755); err != nil { //nolint:gosec // Postgres' user must be able to enter it
		return nil, fmt.Errorf("LOCAL_DIR: %w", err)
	}
	s.binDir = filepath.Join(s.cfg.Dir, "bin")
	lock, err := os.OpenFile(filepath.Join(s.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("LOCAL_DIR: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another stack runs on %s: stop it, or set LOCAL_DIR and GATEWAY_ADDR for this one", s.cfg.Dir)
	}
	unlock = func() { _ = lock.Close() }
	_ = os.Remove(s.envPath()) // left by a stack that was killed
	if s.only["gateway"] {
		if s.gate, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.GatewayAddr); err != nil {
			unlock()
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fmt.Errorf("%s is taken by another program: stop it, or choose another port with GATEWAY_ADDR=localhost:8001", s.cfg.GatewayAddr)
			}
			return nil, fmt.Errorf("GATEWAY_ADDR: %w", err)
		}
		s.stops = append(s.stops, func(context.Context) { _ = s.gate.Close() })
	}
	return unlock, nil
}

// gatewayURL returns the gateway's URL: the configured host, with the port of the listener if the configured port is 0.
func (s *stack) gatewayURL() string {
	host, port, err := net.SplitHostPort(s.cfg.GatewayAddr)
	if err == nil && port == "0" && s.gate != nil {
		_, port, _ = net.SplitHostPort(s.gate.Addr().String())
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (s *stack) envPath() string { return filepath.Join(s.cfg.Dir, "env") }

func (s *stack) say(text string) {
	_, _ = fmt.Fprintf(s.out, "%-15s %s\n", "local", text) // a closed terminal must not stop the stack
}

func (s *stack) start(ctx context.Context) error {
	began := time.Now()
	s.say("starting; data in " + s.cfg.Dir)
	backing, err := s.startServices(ctx)
	if err != nil {
		return err
	}
	token, err := s.dlqToken()
	if err != nil {
		return err
	}
	s.env = envFile{
		"LOCAL_STACK": s.cfg.Dir, "GATEWAY_URL": s.gatewayURL(), "DATABASE_URL": backing.DatabaseURL,
		"REDIS_URL": backing.RedisURL, "KAFKA_BOOTSTRAP_SERVERS": backing.KafkaBootstrapServers, "DLQ_TOKEN": token,
	}
	if err := s.startExchange(ctx); err != nil {
		return err
	}
	ready, err := s.startFunctions(ctx)
	if err != nil {
		return err
	}
	if err := s.startSources(ctx, ready); err != nil {
		return err
	}
	if err := s.startGateway(); err != nil {
		return err
	}
	if err := s.env.write(s.envPath()); err != nil {
		return err
	}
	s.banner(time.Since(began))
	s.demo(ctx)
	return nil
}

func (s *stack) startServices(ctx context.Context) (*services.Services, error) {
	opts := s.cfg.services(s.cfg.Dir, s.say)
	if !s.only["services"] {
		return &services.Services{DatabaseURL: opts.DatabaseURL, RedisURL: opts.RedisURL, KafkaBootstrapServers: opts.KafkaBootstrapServers}, nil
	}
	backing, err := services.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, backing.Close)
	if err := migrate.Up(ctx, backing.DatabaseURL); err != nil {
		return nil, fmt.Errorf("migrate the schema: %w", err)
	}
	s.say("schema is up to date")
	return backing, nil
}

func (s *stack) startExchange(ctx context.Context) error {
	if !s.only["exchange"] {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.ExchangeAddr)
	if err != nil {
		return fmt.Errorf("start exchange: %w", err)
	}
	s.serve(l, exchange.New(s.cfg.ExchangeSeed, time.Now).Invent(s.cfg.Symbols))
	s.env["EXCHANGE_URL"] = "http://" + l.Addr().String()
	s.say("exchange: fake price providers on " + s.env["EXCHANGE_URL"])
	return nil
}

func (s *stack) serve(l net.Listener, h http.Handler) {
	server := service.NewServer(h, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(service.Bounded(l)) }() // ends with Close
	s.stops = append(s.stops, func(context.Context) { _ = server.Close() })
}

func (s *stack) startFunctions(ctx context.Context) (ready func(context.Context) error, err error) {
	ready = func(context.Context) error { return nil }
	if s.only["functions"] {
		sup, err := supervisor.Start(ctx, supervisor.Options{
			BinDir: s.binDir, Copies: s.cfg.replicas, Order: functionNames, Env: s.functionEnv(), Out: s.out, Say: s.say,
		})
		if err != nil {
			return nil, err
		}
		s.stops = append(s.stops, sup.Stop)
		s.urls, ready = sup.URLs(), sup.Ready
	}
	for _, name := range functionNames {
		variable := supervisor.Variable(name)
		if given := os.Getenv(variable); given != "" && !s.only["functions"] { //nolint:forbidigo // one variable for each function, whose name is computed
			s.urls[name] = []string{given}
		}
		if list := s.urls[name]; len(list) > 0 {
			s.env[variable], s.env[variable+"S"] = list[0], strings.Join(list, ",")
			s.say(name + ": " + strings.Join(list, " "))
		}
	}
	return ready, nil
}

func (s *stack) startSources(ctx context.Context, functionsReady func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if s.only["sources"] {
		single := map[string]string{}
		for name, list := range s.urls {
			single[name] = list[0]
		}
		if s.only["functions"] {
			// As on a platform, the replicas of a function have one address: sources reach them through a load balancer.
			for name := range single {
				u, err := s.balance(ctx, s.urls[name])
				if err != nil {
					return err
				}
				single[name] = u
			}
		}
		running, err := sources.Start(ctx, sources.Options{
			ManifestDir: s.cfg.ManifestDir, KafkaBootstrapServers: s.env["KAFKA_BOOTSTRAP_SERVERS"], Services: single, Log: s.logger("sources"),
		})
		if err != nil {
			return err
		}
		s.stops = append(s.stops, func(ctx context.Context) {
			stop, cancel := context.WithTimeout(ctx, sourcesTimeout)
			defer cancel()
			if err := running.Close(stop); err != nil {
				s.say("sources: " + err.Error())
			}
		})
		if err := running.Ready(bounded); err != nil {
			return err
		}
		s.say("sources: ready")
	}
	if err := functionsReady(bounded); err != nil {
		return err
	}
	s.say("functions: ready")
	return nil
}

func (s *stack) startGateway() error {
	if !s.only["gateway"] {
		return nil
	}
	h, err := gateway.New(s.urls, s.logger("gateway"))
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func(context.Context) { h.Close() })
	s.serve(s.gate, h)
	return nil
}

func (s *stack) logger(label string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(supervisor.Readable(s.out, label), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// syncWriter serialises writes, so that lines of several writers do not mix.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes b while no other write is in progress.
func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

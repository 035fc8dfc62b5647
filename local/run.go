package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/local/console"
	"marketdata/local/demo"
	"marketdata/local/exchange"
	"marketdata/local/health"
	"marketdata/local/serving"
	"marketdata/local/sources"
	"marketdata/local/supervisor"
)

// parts lists the values of -only, in the order in which the parts start.
var parts = []string{"services", "exchange", "functions", "sources", "gateway"}

const (
	readyTimeout = 60 * time.Second // for sources and functions
	// A stop takes at most 15 s, whatever hangs. The supervisor gives the functions 10.5 s; the services have the rest.
	stopTimeout    = 14500 * time.Millisecond
	sourcesTimeout = 3 * time.Second
)

// run starts the system, writes its addresses to LOCAL_DIR/env once it is ready, and waits for ctx to end. restore restores the
// default handling of signals, so that a second Ctrl-C ends the program at once.
func run(ctx context.Context, restore func(), args []string) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	only, err := chosenParts(args)
	if err != nil {
		return err
	}
	// What is most likely to be unavailable is taken first: the folder, its lock, and the gateway's port.
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return fmt.Errorf("LOCAL_DIR: %w", err)
	}
	unlock, err := lockFolder(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	_ = os.Remove(cfg.envPath()) // left by a stack that was killed
	var begun stops
	var gate net.Listener
	if only["gateway"] {
		if gate, err = listenGateway(ctx, cfg.GatewayAddr); err != nil {
			return err
		}
		begun.add(func(context.Context) { _ = gate.Close() })
	}
	out := console.New(os.Stdout)
	defer func() {
		restore()
		out.Say("stopping")
		_ = os.Remove(cfg.envPath()) // absent if we never became ready
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		begun.stop(end)
		out.Say("stopped")
	}()
	if err := start(ctx, cfg, only, gate, out, &begun); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted during the start, which caused the error
		}
		return err
	}
	<-ctx.Done()
	return nil
}

// start starts the chosen parts from top to bottom. Each takes what it needs of those above it, and returns what others need of it and
// its stop. The stop goes to begun even if the part fails, so that an error leaves nothing running.
func start(ctx context.Context, cfg config, only map[string]bool, gate net.Listener, out *console.Console, begun *stops) (err error) {
	began := time.Now()
	out.Say("starting; data in " + cfg.Dir)
	var stop stopFunc

	given := cfg.services(cfg.Dir, out.Say)
	backing := given.Addresses
	if only["services"] {
		backing, stop, err = startServices(ctx, given, cfg.Topics)
		if begun.add(stop); err != nil {
			return err
		}
	}
	token, err := dlqToken(cfg)
	if err != nil {
		return err
	}

	var exchangeURL string
	if only["exchange"] {
		exchangeURL, stop, err = serveOn(ctx, cfg.ExchangeAddr, exchange.New(cfg.ExchangeSeed, time.Now).Invent(cfg.Symbols))
		if begun.add(stop); err != nil {
			return fmt.Errorf("start exchange: %w", err)
		}
		out.Say("exchange: fake price providers on " + exchangeURL)
	}

	tracesURL, spans, stop, err := startTraces(ctx, &cfg)
	if begun.add(stop); err != nil {
		return err
	}

	functions, own := givenFunctions(), metrics.NewSet()
	watch := health.Options{Functions: []string{"get-latest", "poll", "compute-ma", "dlq-inspector"}, Replicas: func() map[string][]string { return functions }, Token: token, Metrics: own}
	if only["functions"] {
		o := supervisor.Options{
			BinDir: cfg.binDir(), Copies: cfg.replicas, Order: functionNames, Env: functionEnv(cfg, backing, token, exchangeURL, tracesURL),
			Own: func(function string) []string { return []string{"DATABASE_URL=" + backing.Database(function)} },
			Out: out,
		}
		if cfg.idle > 0 {
			var platform *serving.Platform
			functions, platform, stop, err = startServing(ctx, cfg, o)
			if err == nil {
				watch.Replicas, watch.Scale = platform.Replicas, platform.Status
			}
		} else {
			functions, stop, err = supervisor.Start(ctx, o)
		}
		if begun.add(stop); err != nil {
			return err
		}
	}
	for _, name := range functionNames {
		if urls := functions[name]; len(urls) > 0 {
			out.Say(name + ": " + strings.Join(urls, " "))
		}
	}

	// Sources join their consumer groups while the functions become ready.
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if only["sources"] {
		clientID, err := cfg.clientID()
		if err != nil {
			return err
		}
		var running *sources.Sources
		running, stop, err = startSources(ready, sources.Options{
			ManifestDir: cfg.ManifestDir, Kafka: backing.Kafka, Topics: cfg.Topics, GroupPrefix: cfg.GroupPrefix, ClientID: clientID,
			JitterSeed: cfg.JitterSeed, Metrics: own,
		}, cfg.Tracing, functions, out)
		if begun.add(stop); err != nil {
			return err
		}
		watch.Sources = running.Status
		out.Say("sources: ready")
	}
	if only["functions"] {
		if err := supervisor.Ready(ready, functions); err != nil {
			return err
		}
		out.Say("functions: ready")
	}

	if only["gateway"] {
		stop, err = startGateway(gate, functions, watch, spans, out)
		if begun.add(stop); err != nil {
			return err
		}
	}

	env := stackEnv(cfg, gatewayURL(cfg.GatewayAddr, gate), backing, token, exchangeURL, functions)
	if err := env.write(cfg.envPath()); err != nil {
		return err
	}
	banner(out.Say, env, cfg.envPath(), time.Since(began))
	if poll := functions["poll"]; cfg.Demo && len(poll) > 0 {
		demo.Start(ctx, cfg.Dir, poll[0], out.Say)
	}
	return nil
}

// stopFunc stops a part, and returns when its context ends at the latest.
type stopFunc = func(context.Context)

// stops are the stops of the parts that have begun.
type stops []stopFunc

// add adds the stop of the next part; nil: nothing of it runs.
func (s *stops) add(stop stopFunc) {
	if stop != nil {
		*s = append(*s, stop)
	}
}

// stop stops the parts in the reverse order of their start.
func (s *stops) stop(ctx context.Context) {
	for _, stop := range slices.Backward(*s) {
		stop(ctx)
	}
}

// chosenParts returns the parts of -only, or all of them.
func chosenParts(args []string) (map[string]bool, error) {
	set := flag.NewFlagSet("local", flag.ContinueOnError)
	list := set.String("only", "", "run only these parts, comma-separated: "+strings.Join(parts, ","))
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	only := map[string]bool{}
	for _, p := range parts {
		only[p] = *list == ""
	}
	for _, p := range strings.Split(*list, ",") {
		if p == "" {
			continue
		}
		if _, known := only[p]; !known {
			return nil, fmt.Errorf("-only: unknown part %q (one of %s)", p, strings.Join(parts, ", "))
		}
		only[p] = true
	}
	return only, nil
}

// lockFolder creates the data folder, and keeps other stacks out of it until unlock is called.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Postgres' user must be able to enter it
		return nil, fmt.Errorf("LOCAL_DIR: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own file
	if err != nil {
		return nil, fmt.Errorf("LOCAL_DIR: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close() // nothing was written
		return nil, fmt.Errorf("another stack runs on %s: stop it, or set LOCAL_DIR and GATEWAY_ADDR for this one", dir)
	}
	return func() { _ = lock.Close() }, nil
}

func listenGateway(ctx context.Context, addr string) (net.Listener, error) {
	gate, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another program: stop it, or choose another port with GATEWAY_ADDR=localhost:8001", addr)
	case err != nil:
		return nil, fmt.Errorf("GATEWAY_ADDR: %w", err)
	}
	return gate, nil
}

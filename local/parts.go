package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"marketdata/local/balance"
	"marketdata/local/console"
	"marketdata/local/gateway"
	"marketdata/local/health"
	"marketdata/local/services"
	"marketdata/local/serving"
	"marketdata/local/sources"
	"marketdata/local/supervisor"
	"marketdata/local/traces"
	"marketdata/shared/freeport"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
	"marketdata/shared/trace"
)

// startServices starts the services that the environment does not name, creates the topics, and migrates the schema.
func startServices(ctx context.Context, o services.Options, topics priceevent.Topics) (services.Addresses, stopFunc, error) {
	backing, stop, err := services.Start(ctx, o)
	if err != nil {
		return backing, stop, err
	}
	if err := services.CreateTopics(ctx, backing.Kafka, topics); err != nil {
		return backing, stop, err
	}
	if err := migrate.Up(ctx, backing.DatabaseURL); err != nil {
		return backing, stop, fmt.Errorf("migrate the schema: %w", err)
	}
	o.Say("schema is up to date")
	return backing, stop, makeUsers(ctx, backing, o.Say)
}

// makeUsers gives the functions' roles their privileges, and each function its user.
func makeUsers(ctx context.Context, backing services.Addresses, say func(string)) error {
	missing, err := roles.Grant(ctx, backing.DatabaseURL)
	if err != nil {
		return fmt.Errorf("roles of the functions: %w", err)
	}
	if len(missing) > 0 {
		say("postgres: the user of DATABASE_URL may not create roles, so there is no " + strings.Join(missing, ", "))
	}
	for function, url := range backing.Users {
		if err := roles.Login(ctx, backing.DatabaseURL, function, url); err != nil {
			return err
		}
	}
	return nil
}

// startServing runs the functions as the manifests of their Services say, with replicas only while there are requests. COPIES replaces
// max-scale.
func startServing(ctx context.Context, cfg config, o supervisor.Options) (map[string][]string, *serving.Platform, stopFunc, error) {
	specs, err := serving.Load(cfg.ManifestDir)
	if err != nil {
		return nil, nil, nil, err
	}
	platform := serving.New(cfg.idle, o.Out.Logger("serving"))
	urls := map[string][]string{}
	for _, name := range o.Order {
		spec, declared := specs[name]
		if !declared || !o.Built(name) {
			continue
		}
		if n := cfg.replicas[name]; n > 1 {
			spec.MaxScale = n
		}
		url, err := platform.Add(ctx, name, spec, func(ctx context.Context) (*url.URL, func(context.Context), error) {
			return startReplica(ctx, o, name)
		})
		if err != nil {
			return nil, nil, platform.Close, err
		}
		urls[name] = []string{url}
	}
	// Every function gets the addresses of the others: dlq-inspector replays to compute-ma.
	o.Env = append(o.Env, supervisor.Addresses(urls)...)
	platform.Run()
	o.Out.Say(fmt.Sprintf("functions scale to zero after %v without requests", cfg.idle))
	return urls, platform, platform.Close, nil
}

func startReplica(ctx context.Context, o supervisor.Options, name string) (*url.URL, func(context.Context), error) {
	port, err := freeport.Find(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := o.Replica(name, name, port)
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, p.Stop, nil
}

// flushTime is for the export of the last spans of the sources.
const flushTime = time.Second

// startSources starts the sources of the manifests, and returns once they are ready. Their sinks are the functions.
func startSources(
	ctx context.Context, o sources.Options, tracing trace.Config, functions map[string][]string, out *console.Console,
) (*sources.Sources, stopFunc, error) {
	var begun stops
	o.Services, o.Log = map[string]string{}, out.Logger("sources")
	o.Tracing = trace.Open("sources", tracing, o.Log)
	begun.add(func(context.Context) { o.Tracing.Close(flushTime) })
	for name, replicas := range functions {
		url, stop, err := startBalancer(ctx, replicas)
		if begun.add(stop); err != nil {
			return nil, begun.stop, err
		}
		o.Services[name] = url
	}
	running, err := sources.Start(ctx, o)
	if err != nil {
		return nil, begun.stop, err
	}
	begun.add(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, sourcesTimeout)
		defer cancel()
		if err := running.Close(ctx); err != nil {
			out.Say("sources: " + err.Error())
		}
	})
	return running, begun.stop, running.Ready(ctx)
}

// startBalancer gives the replicas of a function one address, as a platform does.
func startBalancer(ctx context.Context, replicas []string) (string, stopFunc, error) {
	if len(replicas) == 1 {
		return replicas[0], nil, nil
	}
	proxy, err := balance.New(replicas, 0) // a source waits as long as its manifest says
	if err != nil {
		return "", nil, err
	}
	url, stop, err := serveOn(ctx, "127.0.0.1:0", proxy)
	if err != nil {
		return "", nil, fmt.Errorf("balance: %w", err)
	}
	return url, func(ctx context.Context) { stop(ctx); proxy.Close() }, nil
}

// startTraces takes the traces of this stack if cfg says so, and tells the sources where. url is for the functions.
func startTraces(ctx context.Context, cfg *config) (url string, spans *traces.Store, stop stopFunc, err error) {
	if !cfg.Traces {
		return "", nil, nil, nil
	}
	spans = &traces.Store{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", spans.Receive)
	if url, stop, err = serveOn(ctx, "127.0.0.1:0", mux); err != nil {
		return "", nil, nil, fmt.Errorf("start traces: %w", err)
	}
	cfg.Tracing.Endpoint = url
	return url, spans, stop, nil
}

// startGateway starts the gateway on a listener. spans may be nil.
func startGateway(gate net.Listener, functions map[string][]string, watch health.Options, spans *traces.Store, out *console.Console) (stopFunc, error) {
	h, err := gateway.New(functions, health.New(watch), out.Logger("gateway"))
	if err != nil {
		return nil, err
	}
	if spans != nil {
		h.HandleFunc("GET /traces", spans.List)
		h.HandleFunc("GET /traces/{id}", spans.Show)
	}
	stop := serve(gate, h)
	return func(ctx context.Context) { stop(ctx); h.Close() }, nil
}

// seats of a local server: what stands in front of several functions has the connections of all.
const seats = 8 * service.Seats

// serveOn serves h on an address until it is stopped.
func serveOn(ctx context.Context, addr string, h http.Handler) (url string, stop stopFunc, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", nil, err
	}
	return "http://" + l.Addr().String(), serve(l, h), nil
}

func serve(l net.Listener, h http.Handler) (stop stopFunc) {
	server := service.NewServer(h, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(service.Bounded(l, seats)) }() // ends with Close
	return func(context.Context) { _ = server.Close() }
}

// Compute-ma keeps exact moving averages of prices.
//
// It receives price events as CloudEvents (POST /), stores each as a price point and upserts the averages of its series
// in one transaction, and answers 204 only once that is committed. Its effect is a function of the set of events: order,
// duplicates, crashes and the number of replicas do not matter. An event that can never succeed is written to the dead
// letter topic and acknowledged; one that may succeed later is answered 503, and delivered again.
//
// "compute-ma rebuild" computes all averages anew from the stored points, and ends.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/functions/compute-ma/internal/stream"
	"marketdata/shared/api"
	"marketdata/shared/backing"
	"marketdata/shared/deadletter"
	"marketdata/shared/ingress"
	"marketdata/shared/postgres"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

func main() {
	service.Main("compute-ma", func(ctx context.Context) error { return run(ctx, os.Args[1:]) })
}

func run(ctx context.Context, args []string) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := service.NewLogger("compute-ma", cfg.LogLevel)
	service.LimitMemory(200, 96) // 200 deliveries at once keep a good deal alive
	srv := service.New(cfg.Config, log)
	defer srv.Trace("compute-ma")()
	clients, err := backing.Open(srv, cfg.Backing)
	if err != nil {
		return err
	}
	defer clients.Close()
	points := store.New(clients.Postgres.Pool(), cfg.Windows)
	if len(args) > 0 && args[0] == "rebuild" {
		return rebuild(ctx, points, log)
	}
	listener, err := service.Listen(ctx, cfg.Config, service.Seats+cfg.StreamMaxClients)
	if err != nil {
		return err
	}
	srv.Needs(service.Check{Name: "kafka", Ping: clients.Producer.Check(cfg.Backing.Topics.Events), Reports: true})
	srv.MaxHeaderBytes = ingress.MaxHeaderBytes

	m := newMetrics(srv.Metrics)
	events := store.NewBatcher(points, m.batch)
	defer srv.Close(events.Close) // after the server: what is in flight is committed, then the pool closes
	(&receiver{
		events: events, rehearsals: points, maxBytes: cfg.MaxEventBytes, log: log, now: time.Now, metrics: m,
		deadLetters: deadletter.Writer{Producer: clients.Producer, Topic: cfg.Backing.Topics.DeadLetters},
	}).routes(srv.Mux)

	reads, err := postgres.OpenSmall(string(cfg.Backing.DatabaseURL), store.ReadConnections)
	if err != nil {
		return err
	}
	defer srv.Close(reads.Close)
	reads.Observe(srv.Metrics, "reads")
	reader, limit := store.NewReader(reads), clients.Limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Backing.Limits.Default})
	routes := api.New(srv, "compute-ma", "Exact moving averages of observed prices.")
	averages.New(averages.Config{
		Reads: averages.Stored(reader), Windows: cfg.Windows, DefaultProvider: cfg.DefaultProvider, Secret: cfg.Backing.DatabaseURL,
	}).Routes(routes, limit)
	stream.New(stream.Config{
		Reads: reader, DefaultProvider: cfg.DefaultProvider, MaxClients: cfg.StreamMaxClients, Duration: cfg.StreamDuration,
		Stopping: srv.Stopping(), Log: log, Metrics: srv.Metrics,
	}).Routes(routes, limit)
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}

// rebuild computes all averages anew, without a port, until it is told to stop.
func rebuild(ctx context.Context, points *store.Store, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	n, err := points.Rebuild(ctx)
	if err == nil {
		log.InfoContext(ctx, "averages are rebuilt", "series", n)
	}
	return err
}

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
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/deadletter"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/service"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compute-ma:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := service.NewLogger("compute-ma", cfg.LogLevel)
	service.TuneGC(200) // 200 deliveries at once keep a good deal alive
	srv := service.New(cfg.Config, log)
	pool, err := postgres.Open(ctx, string(cfg.DatabaseURL))
	if err != nil {
		return err
	}
	defer srv.Close(pool.Close)
	points := store.New(pool, cfg.Windows)
	if len(args) > 0 && args[0] == "rebuild" {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		n, err := points.Rebuild(ctx)
		if err == nil {
			log.InfoContext(ctx, "averages are rebuilt", "series", n)
		}
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config)
	if err != nil {
		return err
	}
	producer := kafkaclient.NewProducer(cfg.KafkaServers)
	defer srv.Close(func() { producer.Close(srv.Left()) })

	client, err := redisclient.Open(string(cfg.RedisURL))
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is buffered
	limiter := ratelimit.New(client, cfg.Limits, log)
	defer limiter.Close() //nolint:errcheck // nothing is buffered

	srv.Needs(service.Check{Name: "postgres", Ping: pool.Ping}, service.Check{Name: "kafka", Ping: producer.Check(priceevent.Topic)},
		service.Check{Name: "redis", Ping: limiter.Warm, Optional: true}) // events need it not at all
	srv.MaxHeaderBytes = ingress.MaxHeaderBytes
	limiter.Observe(srv.Metrics)
	m := newMetrics(srv.Metrics)
	events := store.NewBatcher(points, m.batch)
	defer srv.Close(events.Close) // after the server: what is in flight is committed, then the pool closes
	(&receiver{
		events: events, rehearsals: points, maxBytes: cfg.MaxEventBytes, log: log, now: time.Now, metrics: m,
		deadLetters: deadletter.Writer{Producer: producer, Topic: priceevent.DeadLetterTopic},
	}).routes(srv.Mux)

	reads, err := postgres.OpenSmall(string(cfg.DatabaseURL), store.ReadConnections)
	if err != nil {
		return err
	}
	defer srv.Close(reads.Close)
	routes := api.New(srv, "compute-ma", "Exact moving averages of observed prices.")
	averages.New(averages.Config{
		Reads: store.NewReader(reads), Windows: cfg.Windows, DefaultProvider: cfg.DefaultProvider, Secret: cfg.DatabaseURL,
	}).Routes(routes, limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Limits.Default}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}

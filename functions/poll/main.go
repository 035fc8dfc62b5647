// Poll fetches prices on a schedule.
//
// POST /prices/poll creates a polling job. Timer events (POST /, dev.knative.sources.ping) claim the jobs that are due,
// fetch each (provider, symbol) once through the same path as get-latest, record the runs, and sweep the outbox.
// Delivery: ticks may be lost, overlap or repeat; no period of a job is recorded twice, and a missed one runs once.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market/providers"
	"marketdata/shared/postgres"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/service"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "poll:", err)
		os.Exit(1) //nolint:gocritic // stop only undoes the signal handler
	}
}

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := service.NewLogger("poll", cfg.LogLevel)
	pool, err := postgres.Open(ctx, string(cfg.DatabaseURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := redisclient.Open(string(cfg.RedisURL))
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is buffered
	producer := kafkaclient.NewProducer(cfg.KafkaServers)
	defer producer.Close(cfg.ShutdownTimeout)

	shared := ratelimit.NewRedis(client, "limit:")
	limiter := &ratelimit.Fallback{
		Shared: shared, Local: ratelimit.NewMemory(time.Now), Budget: cfg.Limits.Timeout, Copies: cfg.Limits.MaxCopies, Log: log,
	}
	limit := func(p ratelimit.Policy) middleware {
		return ratelimit.Middleware(limiter, cfg.Limits.TrustedProxies, p)
	}
	srv := service.New("poll", "Polling jobs: prices on a schedule.", cfg.Config, log,
		service.Check{Name: "postgres", Ping: pool.Ping}, service.Check{Name: "kafka", Ping: producer.Check},
		service.Check{Name: "redis", Ping: shared.Load})
	in := ingest.New(pool, producer, providers.New(cfg.Providers), log)
	store := &pgStore{pool: pool}
	cache := pricecache.New(client, "price:", cfg.CacheTTL, cfg.StaleTTL)
	h := &handler{
		store: store, known: in.Known, defaultProvider: cfg.DefaultProvider,
		tick: &ticker{store: store, ingest: in, cache: cache, log: log, metrics: newMetrics(srv.Metrics)},
	}
	// Creating a job makes paid work for as long as the job lives: without a limiter that answers, none is created.
	h.routes(srv, withClient(cfg.Limits.TrustedProxies),
		limit(ratelimit.Policy{Name: "poll", Limit: cfg.PollLimit, FailClosed: true}),
		limit(ratelimit.Policy{Name: "default", Limit: cfg.Limits.Default}))
	return srv.Run(ctx)
}

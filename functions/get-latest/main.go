// Get-latest serves the latest price of an instrument, and its history.
//
// GET /prices/latest reads the cache. On a miss, one of the waiting requests, over all replicas, fetches from the provider, stores
// the raw response and the price event in one transaction, answers, and publishes the event. A price that was answered is stored,
// and its event is published at least once. GET /prices/history reads price_points.
//
// This package puts the parts together; a request starts in internal/latest or internal/history.
package main

import (
	"context"
	"fmt"
	"os"

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/functions/get-latest/internal/history"
	"marketdata/functions/get-latest/internal/latest"
	"marketdata/shared/api"
	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market/providers"
	"marketdata/shared/postgres"
	"marketdata/shared/pricecache"
	"marketdata/shared/priceevent"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
	"marketdata/shared/redisclient"
	"marketdata/shared/service"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "get-latest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config)
	if err != nil {
		return err
	}
	log := service.NewLogger("get-latest", cfg.LogLevel)
	service.LimitMemory()
	srv := service.New(cfg.Config, log)
	pool, err := postgres.OpenLater(string(cfg.DatabaseURL))
	if err != nil {
		return err
	}
	defer srv.Close(pool.Close)
	cache, err := redisclient.Open(string(cfg.RedisURL))
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // nothing is buffered
	producer := kafkaclient.NewProducer(cfg.KafkaServers)
	defer srv.Close(func() { producer.Close(srv.Left()) })

	limiter := ratelimit.New(cache, cfg.Limits, log)
	defer limiter.Close() //nolint:errcheck // nothing is buffered
	// Optional: without Redis every request is a miss and each replica has its own limits, but requests are answered.
	warm := service.Check{Name: "redis", Ping: limiter.Warm, Optional: true}
	srv.Needs(service.Check{Name: "postgres", Ping: pool.Ping}, service.Check{Name: "kafka", Ping: producer.Check(priceevent.Topic)}, warm)
	limiter.Observe(srv.Metrics)
	budgets := budget.New(cfg.Budgets, cfg.Limits.MaxCopies, limiter, pool, srv.Metrics)
	in := ingest.New(pool, producer, providers.New(cfg.Providers), log).Within(budgets)
	defer srv.Close(in.Close)
	in.Observe(srv.Metrics)
	quotes := pricecache.New(cache, "price:", cfg.CacheTTL, cfg.StaleTTL)
	flights := flight.New(cache, "flight:", quotes, in.Fetch, cfg.Providers.Timeout+ingest.Overhead, log)
	defer srv.Close(flights.Close)
	prices := latest.New(latest.Config{
		Gate:  limiter.Gate(ratelimit.Policy{Name: "latest", Limit: cfg.LatestLimit}),
		Cache: quotes, Flights: flights, Chain: providers.Chain(cfg.ProviderChain, cfg.DefaultProvider), Log: log, Metrics: srv.Metrics,
		Known: in.Known, DefaultProvider: cfg.DefaultProvider, Private: cfg.Limits.APIKeys.Required(),
	})
	routes := api.New(srv, "get-latest", "The latest price of an instrument.")
	prices.Routes(routes)
	history.New(pool, cfg.DefaultProvider).Routes(routes, limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Limits.Default}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}

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

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/functions/get-latest/internal/history"
	"marketdata/functions/get-latest/internal/latest"
	"marketdata/shared/api"
	"marketdata/shared/backing"
	"marketdata/shared/ingest"
	"marketdata/shared/market/providers"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
	"marketdata/shared/service"
)

func main() { service.Main("get-latest", run) }

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config, service.Seats)
	if err != nil {
		return err
	}
	log := service.NewLogger("get-latest", cfg.LogLevel)
	service.LimitMemory(400, 48)
	srv := service.New(cfg.Config, log)
	defer srv.Trace("get-latest")()
	clients, err := backing.Open(srv, cfg.Backing)
	if err != nil {
		return err
	}
	defer clients.Close()
	limiter, pool := clients.Limiter, clients.Postgres // lazy: a replica that starts for a cached price does not wait for a pool
	srv.Needs(service.Check{Name: "kafka", Ping: clients.Producer.Check(cfg.Backing.Topics.Events), Reports: true})

	budgets := budget.New(cfg.Budgets, cfg.Backing.Limits.MaxCopies, limiter, pool, srv.Metrics)
	in := ingest.New(pool, clients.Producer, cfg.Backing.Topics.Events, providers.New(cfg.Providers), log).Within(budgets)
	defer srv.Close(in.Close)
	in.Observe(srv.Metrics)
	quotes := pricecache.New(clients.Redis, "price:", cfg.CacheTTL, cfg.StaleTTL)
	flights := flight.New(clients.Redis, "flight:", quotes, in.Fetch, cfg.Providers.Timeout+ingest.Overhead, log)
	defer srv.Close(flights.Close)
	prices := latest.New(latest.Config{
		Gate:  limiter.Gate(ratelimit.Policy{Name: "latest", Limit: cfg.LatestLimit}),
		Cache: quotes, Flights: flights, Chain: providers.Chain(cfg.ProviderChain, cfg.DefaultProvider), Log: log, Metrics: srv.Metrics,
		Known: in.Known, DefaultProvider: cfg.DefaultProvider, Private: cfg.Backing.Limits.APIKeys.Required(),
	})
	routes := api.New(srv, "get-latest", "The latest price of an instrument.")
	prices.Routes(routes)
	history.New(pool, quotes, cfg.DefaultProvider).Routes(routes, limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Backing.Limits.Default}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}

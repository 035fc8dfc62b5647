// Poll fetches prices on a schedule.
//
// POST /prices/poll creates a polling job. Timer events (POST /, dev.knative.sources.ping) claim the jobs that are due, fetch each
// (provider, symbol) once through the same path as get-latest, record the runs, and sweep the outbox. Ticks may be lost, overlap or
// repeat: no period of a job is recorded twice, and a missed one runs once.
//
// POST /prices/backfill fetches the bars of a range, and each new one after it; ticks drive that, too.
//
// This package has the API (handler.go, backfills.go) and puts the parts together; a tick starts at [schedule.Ticker.Run].
package main

import (
	"context"
	"time"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/backing"
	"marketdata/shared/ingest"
	"marketdata/shared/market/providers"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
	"marketdata/shared/service"
)

func main() { service.Main("poll", run) }

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config, service.Seats)
	if err != nil {
		return err
	}
	log := service.NewLogger("poll", cfg.LogLevel)
	service.LimitMemory(400, 48)
	srv := service.New(cfg.Config, log)
	defer srv.Trace("poll")()
	clients, err := backing.Open(srv, cfg.Backing)
	if err != nil {
		return err
	}
	defer clients.Close()
	limiter, pool := clients.Limiter, clients.Postgres.Pool()
	srv.Needs(service.Check{Name: "kafka", Ping: clients.Producer.Check(cfg.Backing.Topics.Events), Reports: true})

	budgets := budget.New(cfg.Budgets, cfg.Backing.Limits.MaxCopies, limiter, pool, srv.Metrics)
	in := ingest.New(pool, clients.Producer, cfg.Backing.Topics.Events, providers.New(cfg.Providers), log).Within(budgets)
	defer srv.Close(in.Close)
	in.Observe(srv.Metrics)
	m := newMetrics(srv.Metrics, in.Providers())
	polls := store.New(pool)
	histories := backfill.New(backfill.RunnerConfig{
		Store: polls, Ingest: in, Log: log, Count: m.answered, Behind: m.seriesBehind, Stopping: srv.Stopping(),
	})
	defer srv.Close(histories.Wait)
	chain := providers.Chain(cfg.ProviderChain, cfg.DefaultProvider)
	ticker := schedule.New(schedule.Config{
		Store: polls, Outbox: in, History: histories, Log: log, Recorded: m.recorded, Swept: m.swept,
		Troubles: m.troubles(in.Providers()),
		Fetcher: fetch.New(fetch.Config{
			Budget: in, Ingest: in, Cache: pricecache.New(clients.Redis, "price:", cfg.CacheTTL, cfg.StaleTTL),
			Chain: chain, Log: log, Count: m.fetched,
		}),
		Fresh: cfg.CacheTTL, RawRetention: cfg.RawRetention, RunsRetention: cfg.RunsRetention, Stopping: srv.Stopping(),
	})
	h := &handler{
		store: polls, known: in.Known, defaultProvider: cfg.DefaultProvider, chain: chain, tick: ticker.Run,
		backfills: &backfills{
			store: polls, known: in.Known, historian: in.Historian, defaultProvider: cfg.DefaultProvider, kick: histories.Kick, now: time.Now,
		},
	}
	// A job causes calls that cost money for as long as it lives: if the limiter does not answer, none is created.
	routes := api.New(srv, "poll", "Polling jobs: prices on a schedule. Backfills: histories of bars.")
	h.routes(srv.Mux, routes,
		limiter.Middleware(ratelimit.Policy{Name: "poll", Limit: cfg.PollLimit, FailClosed: true}),
		limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Backing.Limits.Default}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}

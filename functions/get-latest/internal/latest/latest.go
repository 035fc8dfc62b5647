// Package latest is GET /prices/latest: the newest price of an instrument, or of several.
//
// A request passes through the files in this order: latest.go takes it in, query.go reads it, prices.go finds the prices, in the cache
// or through package flight, and answer.go writes them. document.go has the route's part of the OpenAPI document: nothing is validated
// or encoded by it, because the cache is read in the limiter's round trip, and so the request must be parsed before that.
package latest

import (
	"log/slog"
	"net/http"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"marketdata/functions/get-latest/internal/flight"
	"marketdata/shared/api"
	"marketdata/shared/pricecache"
	"marketdata/shared/problem"
)

// Gate admits requests, and carries the caller's reads from Redis in its own round trip. [ratelimit.Gate] is one.
type Gate interface {
	Admit(w http.ResponseWriter, r *http.Request, ride func(redis.Pipeliner)) (client string, ok bool)
}

// Config is what the API needs.
type Config struct {
	Gate            Gate
	Cache           *pricecache.Cache
	Flights         *flight.Group
	Chain           []string // what provider=auto tries, in order
	Known           func(provider string) bool
	DefaultProvider string // of a request that names none
	Private         bool   // clients need API keys, so shared caches must not store answers
	Log             *slog.Logger
	Metrics         *metrics.Set
}

// API answers requests. Safe for concurrent use.
type API struct {
	Config
	prices prices
}

// New returns an API.
func New(c Config) *API {
	return &API{c, prices{cache: c.Cache, flights: c.Flights, chain: c.Chain, log: c.Log, lookups: newLookups(c.Metrics)}}
}

// Routes adds the route to the function's API.
func (a *API) Routes(routes *api.API) {
	api.Mount[documentedQuery, documentedAnswer](routes, operation, http.HandlerFunc(a.latest))
	routes.Document(describe)
	explain(routes)
}

// latest answers GET /prices/latest. The cache is read in the round trip of the limit check, so a hit costs a single round trip.
// Invalid requests count towards the limit, too.
func (a *API) latest(w http.ResponseWriter, r *http.Request) {
	q, err := a.read(r)
	var cached *pricecache.Lookup
	ride := func(p redis.Pipeliner) { cached = a.prices.queue(r.Context(), p, q.provider, q.symbols) }
	if len(q.symbols) == 0 {
		ride = nil
	}
	if _, ok := a.Gate.Admit(w, r, ride); !ok {
		return
	}
	if err == nil {
		err = a.respond(w, r, q, cached)
	}
	if err != nil {
		problem.Write(w, r, err)
	}
}

// respond finds the prices that a valid request asks for, and writes them.
func (a *API) respond(w http.ResponseWriter, r *http.Request, q query, cached *pricecache.Lookup) error {
	ctx := r.Context()
	if q.batch {
		return batch(ctx, q, a.prices.findAll(ctx, q.provider, q.symbols, cached)).write(w, q.held, a.Private)
	}
	f, err := a.prices.find(ctx, q.provider, q.symbols[0], a.prices.cached(ctx, cached, 0))
	if err != nil {
		return err
	}
	return single(f).write(w, q.held, a.Private)
}

package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/redis/go-redis/v9"

	"marketdata/shared/market"
)

// asked is what a plain request is for.
type asked struct {
	provider string
	symbol   market.Symbol
}

type askedKey struct{}

// plain reads a query that names one symbol and perhaps a provider, each once and unescaped, and nothing else. The rules for
// all that is otherwise are the handler's business.
func (h *handler) plain(query string) (a asked, ok bool) {
	if strings.ContainsAny(query, "%+;") {
		return asked{}, false
	}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case name == "symbol" && a.symbol == "":
			symbol, err := market.ParseSymbol(value)
			if err != nil {
				return asked{}, false
			}
			a.symbol = symbol
		case name == "provider" && a.provider == "" && h.known(value):
			a.provider = value
		default:
			return asked{}, false
		}
	}
	if a.provider == "" {
		a.provider = h.defaultProvider
	}
	return a, a.symbol != "" && a.provider != auto
}

// rider queues the cache's reads beside the limiter's check, so that a hit costs one round trip. What it cannot make sense
// of it leaves to the handler.
func (h *handler) rider(ctx context.Context, r *http.Request, p redis.Pipeliner) context.Context {
	if a, ok := h.plain(r.URL.RawQuery); ok {
		return context.WithValue(h.prices.cache.Prefetch(ctx, p, a.provider, a.symbol), askedKey{}, a)
	}
	provider := queryparam.Get(r.URL.RawQuery, "provider")
	if provider == "" {
		provider = h.defaultProvider
	}
	if provider == auto {
		provider = h.prices.chain[0]
	}
	texts := append([]string{queryparam.Get(r.URL.RawQuery, "symbol")}, strings.SplitN(queryparam.Get(r.URL.RawQuery, "symbols"), ",", maxSymbols+1)...)
	var symbols []market.Symbol
	for _, text := range texts {
		if s, err := market.ParseSymbol(text); err == nil {
			symbols = append(symbols, s)
		}
	}
	if len(symbols) == 0 || len(symbols) > maxSymbols || !h.known(provider) {
		return ctx
	}
	return h.prices.cache.Prefetch(ctx, p, provider, symbols...)
}

// hit answers what most requests are, a plain one whose price is fresh in the cache, by a shorter way than the API
// library's reflection. Anything else goes on to the handler: the answer is the same by either way, which a test holds.
func (h *handler) hit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.answerHit(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

func (h *handler) answerHit(w http.ResponseWriter, r *http.Request) bool {
	a, ok := r.Context().Value(askedKey{}).(asked)
	if !ok || r.Header["If-None-Match"] != nil {
		return false
	}
	entry, _, err := h.prices.cache.Get(r.Context(), a.provider, a.symbol)
	if err != nil || entry.Left <= 0 {
		return false
	}
	f := found{entry: entry, how: "HIT"}
	full, err := h.answer(&priceQuery{}, f.how, entry, etag(f), bodyOf(f))
	if err != nil {
		return false
	}
	h.prices.count(f.how)
	header := w.Header() // by the names' canonical forms, which spares their conversion
	header["Content-Type"] = []string{full.ContentType}
	header["X-Cache"] = []string{full.Cache}
	header["Age"] = []string{strconv.Itoa(full.Age)}
	header["Cache-Control"] = []string{full.CacheControl}
	header["Etag"] = []string{full.ETag}
	// Flushed, the answer is on its way before the request is counted and logged.
	header["Content-Length"] = []string{strconv.Itoa(len(full.Body))}
	_, _ = w.Write(full.Body) // an error means that the client went away
	_ = http.NewResponseController(w).Flush()
	return true
}

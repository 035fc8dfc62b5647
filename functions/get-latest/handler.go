package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/service"
)

type fetcher interface {
	Fetch(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error)
	Known(provider string) bool
}

type cache interface {
	Get(ctx context.Context, provider string, symbol market.Symbol) (pricecache.Entry, bool, error)
	Put(ctx context.Context, q market.Quote, id uuid.UUID) (pricecache.Entry, error)
}

type handler struct {
	fetch           fetcher
	cache           cache
	defaultProvider string
	log             *slog.Logger
	flight          *singleflight.Group
}

func newHandler(f fetcher, c cache, defaultProvider string, log *slog.Logger) *handler {
	return &handler{f, c, defaultProvider, log, &singleflight.Group{}}
}

func (h *handler) routes(srv *service.Service, limit func(huma.Context, func(huma.Context))) {
	service.Handle(srv.API, huma.Operation{
		OperationID: "latest-price", Method: http.MethodGet, Path: "/prices/latest", Tags: []string{"prices"},
		Summary:     "The latest price of an instrument",
		Errors:      []int{400, 404, 429, 500, 502, 503, 504},
		Middlewares: huma.Middlewares{limit},
	}, h.latest)
}

type priceQuery struct {
	Symbol      string `query:"symbol" required:"true" doc:"Instrument, such as AAPL; lower case is raised"`
	Provider    string `query:"provider" doc:"Provider; DEFAULT_PROVIDER if absent"`
	IfNoneMatch string `header:"If-None-Match" doc:"ETag of the price the client has"`
}

type priceAnswer struct {
	Status       int
	Cache        string `header:"X-Cache" doc:"HIT, MISS or STALE"`
	Age          int    `header:"Age" doc:"Seconds since the price was fetched"`
	CacheControl string `header:"Cache-Control"`
	ETag         string `header:"ETag"`
	Body         *priceBody
}

type priceBody struct {
	Symbol    string         `json:"symbol" example:"AAPL"`
	Price     service.Number `json:"price" doc:"Exact digits as the provider gave them"`
	Timestamp time.Time      `json:"timestamp" doc:"When the provider observed the price"`
	Provider  string         `json:"provider" example:"yfinance"`
	Currency  string         `json:"currency,omitempty" doc:"As the provider names it; minor units (GBp) are not divided"`
	Stale     bool           `json:"stale,omitempty" doc:"The provider failed; this is an older price"`
}

func (h *handler) latest(ctx context.Context, in *priceQuery) (*priceAnswer, error) {
	symbol, err := market.ParseSymbol(in.Symbol)
	if err != nil {
		return nil, err
	}
	provider := in.Provider
	if provider == "" {
		provider = h.defaultProvider
	}
	if !h.fetch.Known(provider) {
		return nil, fault.New(fault.Invalid, "unknown_provider", "there is no provider of that name")
	}
	entry, found, err := h.cache.Get(ctx, provider, symbol)
	if err != nil { // a cache that is away is a miss
		h.log.WarnContext(ctx, "cache not read", "err", err, "request_id", service.RequestID(ctx))
	}
	if found && entry.Left > 0 {
		return answer(in, entry, "HIT"), nil
	}
	fresh, err := h.refresh(ctx, provider, symbol)
	switch {
	case err == nil:
		return answer(in, fresh, "MISS"), nil
	case found && fault.KindOf(err) == fault.Unavailable && fault.CodeOf(err) != "storage_unavailable":
		h.log.WarnContext(ctx, "stale price answered", "err", err, "symbol", symbol, "provider", provider)
		return answer(in, entry, "STALE"), nil
	}
	return nil, err
}

// refresh fetches once however many requests of this process wait for the series. A client that goes away does not
// stop the fetch for the others.
func (h *handler) refresh(ctx context.Context, provider string, symbol market.Symbol) (pricecache.Entry, error) {
	done := h.flight.DoChan(provider+" "+string(symbol), func() (any, error) {
		ctx := context.WithoutCancel(ctx)
		r, err := h.fetch.Fetch(ctx, provider, symbol)
		if err != nil {
			return nil, err
		}
		entry, err := h.cache.Put(ctx, r.Quote, r.RawResponseID)
		if err != nil {
			h.log.WarnContext(ctx, "cache not written", "err", err)
			entry = pricecache.Entry{Quote: r.Quote, RawResponseID: r.RawResponseID}
		}
		return entry, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return pricecache.Entry{}, r.Err
		}
		entry, ok := r.Val.(pricecache.Entry)
		if !ok {
			return pricecache.Entry{}, fmt.Errorf("unexpected result %T", r.Val)
		}
		return entry, nil
	case <-ctx.Done():
		return pricecache.Entry{}, fault.Wrap(ctx.Err(), fault.Unavailable, "client_closed", "the request was cancelled")
	}
}

func answer(in *priceQuery, e pricecache.Entry, how string) *priceAnswer {
	a := &priceAnswer{
		Status: http.StatusOK, Cache: how, Age: int(e.Age.Seconds()),
		CacheControl: "max-age=" + strconv.Itoa(max(int(math.Ceil(e.Left.Seconds())), 0)),
		ETag:         `"` + e.RawResponseID.String() + `"`,
	}
	if how == "STALE" {
		a.ETag = `"` + e.RawResponseID.String() + `-stale"` // its body differs: it says that it is stale
	}
	if in.IfNoneMatch == a.ETag {
		a.Status = http.StatusNotModified
		return a
	}
	a.Body = &priceBody{
		Symbol: string(e.Quote.Symbol), Price: service.Number(e.Quote.Price.String()), Timestamp: e.Quote.ObservedAt.UTC(),
		Provider: e.Quote.Provider, Currency: e.Quote.Currency, Stale: how == "STALE",
	}
	return a
}

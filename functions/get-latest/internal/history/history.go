// Package history is GET /prices/history: the stored prices of a series, in pages.
package history

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/service"
	"marketdata/shared/timerange"
)

// points reads stored prices. [pgPoints] is one.
type points interface {
	read(ctx context.Context, q span, limit int) ([]point, error)
}

// API answers queries. Safe for concurrent use.
type API struct {
	points          points
	defaultProvider string
}

// New returns an API that reads price_points. defaultProvider is the provider of a query that names none.
func New(pool postgres.DB, defaultProvider string) *API {
	return &API{&pgPoints{pool}, defaultProvider}
}

// Routes adds the query to the function's API, behind limit.
func (a *API) Routes(routes *api.API, limit service.Middleware) {
	api.Handle(routes, huma.Operation{
		OperationID: "price-history", Method: http.MethodGet, Path: "/prices/history", Tags: []string{"prices"},
		Summary: "Stored prices of an instrument, in pages",
		Errors:  []int{400, 429, 500, 503},
	}, a.history, limit)
	routes.Document(describe)
}

// describe adds to the document what huma cannot know.
func describe(doc *huma.OpenAPI) {
	const path = "/prices/history"
	symbol, provider := api.Parameter(doc, path, "symbol"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbol.Pattern, symbol.MaxLength = market.SymbolPattern, &longest
	provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
	for status, text := range map[int]string{
		400: "invalid_symbol, invalid_provider or invalid_parameter", 429: "rate_limited", 500: "internal", 503: "storage_unavailable",
	} {
		doc.Paths[path].Get.Responses[strconv.Itoa(status)].Description = text
	}
}

type historyQuery struct {
	Symbol    string `query:"symbol" required:"true" doc:"Instrument, such as AAPL"`
	Provider  string `query:"provider" doc:"Provider of the series; DEFAULT_PROVIDER if absent"`
	Start     string `query:"start" doc:"First instant, inclusive: RFC 3339, a date (its beginning, UTC), or milliseconds since 1970"`
	End       string `query:"end" doc:"Last instant, exclusive: RFC 3339, a date (its beginning, UTC), or milliseconds since 1970"`
	Order     string `query:"order" enum:"asc,desc" default:"asc" doc:"Order of the observation times"`
	Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Prices per page"`
	PageToken string `query:"page_token" maxLength:"64" doc:"next_page_token of the previous page, with the same query"`
}

type historyAnswer struct{ Body historyBody }

type historyBody struct {
	Symbol        string      `json:"symbol" example:"AAPL"`
	Provider      string      `json:"provider" example:"yfinance"`
	Prices        []pointBody `json:"prices"`
	NextPageToken *string     `json:"next_page_token" nullable:"true" doc:"null on the last page"`
}

type pointBody struct {
	Timestamp     time.Time  `json:"timestamp" doc:"When the provider observed the price"`
	Price         api.Number `json:"price" doc:"Exact digits"`
	RawResponseID uuid.UUID  `json:"raw_response_id" format:"uuid" doc:"ID of the provider's response that the price came from"`
}

// history pages through stored prices. A page token holds the last observation time of its page, so points that are stored
// between two requests neither shift nor repeat others.
func (a *API) history(ctx context.Context, in *historyQuery) (*historyAnswer, error) {
	q, err := a.spanOf(in)
	if err != nil {
		return nil, err
	}
	page := q
	if in.PageToken != "" {
		last, err := readToken(in.PageToken, q)
		if err != nil {
			return nil, err
		}
		if q.descending {
			page.To = last
		} else {
			page.From = last.Add(time.Microsecond)
		}
	}
	all, err := a.points.read(ctx, page, in.Limit+1)
	if err != nil {
		return nil, err
	}
	body := historyBody{Symbol: string(q.symbol), Provider: q.provider, Prices: make([]pointBody, 0, min(len(all), in.Limit))}
	if len(all) > in.Limit {
		all = all[:in.Limit]
		token := newToken(all[in.Limit-1].ObservedAt, q)
		body.NextPageToken = &token
	}
	for _, p := range all {
		body.Prices = append(body.Prices, pointBody{p.ObservedAt.UTC(), api.Number(p.Price.String()), p.RawResponseID})
	}
	return &historyAnswer{body}, nil
}

// span is the part of a series that a query selects.
type span struct {
	symbol   market.Symbol
	provider string
	timerange.Range
	descending bool
}

// spanOf reads a query. Errors are Invalid: invalid_symbol, invalid_provider or invalid_parameter.
func (a *API) spanOf(in *historyQuery) (span, error) {
	q := span{provider: in.Provider, descending: in.Order == "desc"}
	if q.provider == "" {
		q.provider = a.defaultProvider
	}
	var err error
	if q.symbol, err = market.ParseSymbol(in.Symbol); err != nil {
		return span{}, err
	}
	if _, err := market.ParseProvider(q.provider); err != nil {
		return span{}, err
	}
	if q.provider == "auto" { // stored prices have the name of the provider that answered
		return span{}, fault.New(fault.Invalid, fault.CodeInvalidProvider, "provider auto has no history: name a provider")
	}
	if q.Range, err = timerange.Parse(in.Start, in.End); err != nil {
		return span{}, err
	}
	return q, nil
}

// newToken returns a page token, which holds the last time of the page in microseconds. It needs no signature: a forged token shows
// nothing that another start would not.
func newToken(last time.Time, q span) string { return api.Token(q.pages(), last.UnixMicro()) }

// readToken returns the last time of the page before. Errors are Invalid: invalid_parameter.
func readToken(token string, q span) (time.Time, error) {
	micros, err := api.ReadToken[int64](q.pages(), token)
	if err != nil || micros == nil {
		return time.Time{}, api.ErrPageToken
	}
	last := time.UnixMicro(*micros).UTC()
	if last.Before(q.From) || !last.Before(q.To) {
		return time.Time{}, api.ErrPageToken
	}
	return last, nil
}

func (q span) pages() api.Query {
	return api.QueryOf(q.symbol, q.provider, q.From.UnixMicro(), q.To.UnixMicro(), q.descending)
}

// Package history is GET /prices/history: the stored prices of a series, in pages.
package history

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/pricecache"
	"marketdata/shared/service"
	"marketdata/shared/timerange"
)

// points reads stored prices. [pgPoints] is one.
type points interface {
	read(ctx context.Context, q span, limit int) ([]point, error)
}

// quotes are the newest quotes, which know their currency; points do not. [pricecache.Cache] is one.
type quotes interface {
	Get(ctx context.Context, provider string, symbol market.Symbol) (e pricecache.Entry, found bool, err error)
}

// API answers queries. Safe for concurrent use.
type API struct {
	points          points
	quotes          quotes
	defaultProvider string
}

// New returns an API that reads price_points. defaultProvider is the provider of a query that names none.
func New(pool postgres.DB, quotes *pricecache.Cache, defaultProvider string) *API {
	return &API{&pgPoints{pool}, quotes, defaultProvider}
}

// Routes adds the query to the function's API, behind limit.
func (a *API) Routes(routes *api.API, limit service.Middleware) {
	api.HandleTable(routes, huma.Operation{
		OperationID: "price-history", Method: http.MethodGet, Path: path, Tags: []string{api.TagPrices},
		Summary: "Stored prices of an instrument, in pages",
	}, a.history, a.table, limit)
	routes.Document(describe)
	explain(routes)
}

type historyQuery struct {
	Symbol    string `query:"symbol" required:"true" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & +; lower case is converted to upper case" example:"AAPL"`
	Provider  string `query:"provider" doc:"Provider of the series; DEFAULT_PROVIDER if absent; bars have the provider and the interval, as in yfinance-1d" example:"yfinance"`
	Start     string `query:"start" doc:"First instant, inclusive: RFC 3339, a date (its beginning, UTC), or milliseconds since 1970" example:"2024-03-01"`
	End       string `query:"end" doc:"Last instant, exclusive: RFC 3339, a date (its beginning, UTC), or milliseconds since 1970" example:"2024-04-01T00:00:00Z"`
	Order     string `query:"order" enum:"asc,desc" default:"asc" doc:"Order of the observation times" example:"asc"`
	Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Prices per page" example:"1000"`
	PageToken string `query:"page_token" maxLength:"64" doc:"next_page_token of the page before, with the same query; empty: the first page" example:"gR9mS0Y2b4kT1wVxqJ7nPTE3MTA5MzA2MDAwMDAwMDA"`
	api.Format
}

type historyAnswer struct{ Body historyBody }

type historyBody struct {
	Symbol        string      `json:"symbol" example:"AAPL"`
	Provider      string      `json:"provider" example:"yfinance"`
	Currency      string      `json:"currency,omitempty" doc:"As in the newest quote of the symbol from that provider, if it is still in the cache; bars have the currency of quotes"`
	Prices        []pointBody `json:"prices"`
	NextPageToken *string     `json:"next_page_token" nullable:"true" doc:"null on the last page"`
}

type pointBody struct {
	Timestamp     time.Time  `json:"timestamp" doc:"When the provider observed the price"`
	Price         api.Number `json:"price" doc:"Exact digits"`
	RawResponseID uuid.UUID  `json:"raw_response_id" format:"uuid" doc:"ID of the provider's response that the price came from"`
}

// cursor goes through a span page by page. It holds the last observation time of a page, so points that are stored between two pages
// neither shift nor repeat others.
type cursor struct {
	span   // all that the query selects
	rest   timerange.Range
	ended  bool
	points points
}

func (a *API) cursorOf(in *historyQuery) (*cursor, error) {
	q, err := a.spanOf(in)
	if err != nil {
		return nil, err
	}
	c := &cursor{span: q, rest: q.Range, points: a.points}
	if in.PageToken != "" {
		last, err := readToken(in.PageToken, q)
		if err != nil {
			return nil, err
		}
		c.after(last)
	}
	return c, nil
}

// after makes the next page begin after a point.
func (c *cursor) after(last time.Time) {
	if c.descending {
		c.rest.To = last
	} else {
		c.rest.From = last.Add(time.Microsecond)
	}
}

// page returns the next points. The token is that of the page after them, empty at the end.
func (c *cursor) page(ctx context.Context, limit int) (rows []pointBody, token string, err error) {
	if c.ended {
		return nil, "", nil
	}
	q := c.span
	q.Range = c.rest
	all, err := c.points.read(ctx, q, limit+1)
	if err != nil {
		return nil, "", err
	}
	if c.ended = len(all) <= limit; !c.ended {
		all = all[:limit]
		c.after(all[limit-1].ObservedAt)
		token = newToken(all[limit-1].ObservedAt, c.span)
	}
	rows = make([]pointBody, 0, len(all))
	for _, p := range all {
		rows = append(rows, pointBody{p.ObservedAt.UTC(), api.Number(p.Price.String()), p.RawResponseID})
	}
	return rows, token, nil
}

func (a *API) history(ctx context.Context, in *historyQuery) (*historyAnswer, error) {
	c, err := a.cursorOf(in)
	if err != nil {
		return nil, err
	}
	body := historyBody{Symbol: string(c.symbol), Provider: c.provider, Currency: a.currency(ctx, c.span)}
	var token string
	if body.Prices, token, err = c.page(ctx, in.Limit); err != nil {
		return nil, err
	}
	if token != "" {
		body.NextPageToken = &token
	}
	return &historyAnswer{body}, nil
}

// csvPage is how many points of a whole series are in memory at a time.
const csvPage = 5000

// table is the same as CSV.
func (a *API) table(_ context.Context, in *historyQuery, whole bool) (*api.Table, error) {
	c, err := a.cursorOf(in)
	if err != nil {
		return nil, err
	}
	limit := in.Limit
	if whole {
		limit = csvPage
	}
	var next string
	return &api.Table{
		Name: "prices-" + string(c.symbol) + "-" + c.provider, Columns: []string{"timestamp", "price", "raw_response_id"},
		Read: func(ctx context.Context) (rows [][]string, err error) {
			var page []pointBody
			page, next, err = c.page(ctx, limit)
			for _, p := range page {
				rows = append(rows, []string{p.Timestamp.Format(time.RFC3339Nano), string(p.Price), p.RawResponseID.String()})
			}
			return rows, err
		},
		Next: func() string { return next },
	}, nil
}

// currency returns the currency of a series, "" if it is not known. The history is complete without it, so an error does not matter.
func (a *API) currency(ctx context.Context, q span) string {
	provider := q.provider
	if quoted, _, ok := market.ParseBarSeries(provider); ok {
		provider = quoted
	}
	e, _, _ := a.quotes.Get(ctx, provider, q.symbol) // the zero Entry after an error
	return e.Quote.Currency
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

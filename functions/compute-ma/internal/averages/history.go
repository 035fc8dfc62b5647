package averages

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/timerange"
)

type historyQuery struct {
	Symbol    string `query:"symbol" required:"true" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & +; lower case is converted to upper case" example:"AAPL"`
	Provider  string `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent; bars have the provider and the interval, as in yfinance-1d" example:"yfinance"`
	Window    int    `query:"window" default:"5" minimum:"1" maximum:"500" doc:"Points in the window"`
	Kind      kind   `query:"kind" default:"sma" enum:"sma,wma,ema" doc:"Simple (exact), weighted or exponential (both rounded to 12 places)"`
	Start     string `query:"start" maxLength:"64" doc:"Start of the range, inclusive: RFC 3339, a date, or milliseconds since 1970" example:"2024-03-01"`
	End       string `query:"end" maxLength:"64" doc:"End of the range, exclusive, in the same forms" example:"2024-04-01T00:00:00Z"`
	Expand    bool   `query:"expand_underlying" doc:"With the points that each average is made of"`
	Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Averages per page" example:"1000"`
	PageToken string `query:"page_token" maxLength:"500" doc:"next_page_token of the page before, with the same query; empty: the first page" example:"gR9mS0Y2b4kT1wVxqJ7nPTE3MTA5MzA2MDAwMDAwMDA"`
	api.Format
}

type historyAnswer struct {
	Body struct {
		Symbol    string           `json:"symbol"`
		Provider  string           `json:"provider"`
		Kind      kind             `json:"kind" enum:"sma,wma,ema"`
		Window    int              `json:"window"`
		Averages  []historyAverage `json:"averages" doc:"Oldest first; windows that are not full yet are left out"`
		Adjusting bool             `json:"adjusting,omitempty" doc:"Only for bars, and only if true: after a split, the series is being fetched again, and closes before and after the split may be in different shares"`
		api.Next
	}
}

type historyAverage struct {
	AsOf       time.Time       `json:"as_of" doc:"Observation time of the newest point used"`
	Average    api.Number      `json:"average"`
	Previous   api.Number      `json:"previous,omitempty" doc:"With expand_underlying: the ema that this one goes on from"`
	Underlying []underlyingRow `json:"underlying,omitempty" doc:"With expand_underlying: the points used, oldest first; for an ema those since previous"`
}

type underlyingRow struct {
	Timestamp time.Time  `json:"timestamp"`
	Price     api.Number `json:"price"`
}

// kind is a kind of moving average.
type kind string

const (
	sma kind = "sma" // simple: the mean
	wma kind = "wma" // weighted: the newest point counts window times, the oldest once
	ema kind = "ema" // exponential
)

// maxExpanded bounds the points in one answer.
const maxExpanded = 100_000

// pages goes through a history page by page. It computes averages from the points of the range alone: the first average belongs to the
// window-th point of the range. A cursor carries the state that the next page continues from, so the pages together equal one long answer.
type pages struct {
	*API
	in    historyQuery
	key   series.Key
	span  series.Range
	query api.Query // of page tokens
	at    *cursor   // nil: the first page
	ended bool
}

func (a *API) pagesOf(in *historyQuery) (*pages, error) {
	k, err := a.parseSeries(in.Symbol, in.Provider)
	if err != nil {
		return nil, err
	}
	bounds, err := timerange.Parse(in.Start, in.End)
	if err != nil {
		return nil, err
	}
	r := series.Range{From: bounds.From.UnixMicro(), To: bounds.To.UnixMicro()}
	query := a.queryOf(in, k, r)
	at, err := readCursor(query, in)
	return &pages{API: a, in: *in, key: k, span: r, query: query, at: at}, err
}

// next returns the next averages, and whether their points are adjusting. The token is that of the page after them, empty at the end.
func (p *pages) next(ctx context.Context) (rows []historyAverage, token string, adjusting bool, err error) {
	if p.ended {
		return nil, "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, store.ReadTimeout)
	defer cancel()
	if err := p.slots.take(ctx); err != nil {
		return nil, "", false, err
	}
	defer p.slots.give()
	var next *cursor
	adjusting, err = p.watch(ctx, p.key, func(a *API) (first, last int64, err error) {
		rows, next, first, last, err = a.page(ctx, &p.in, p.key, p.span, p.at)
		return first, last, err
	})
	if err != nil {
		return nil, "", false, fmt.Errorf("average history: %w", err)
	}
	p.at, p.ended = next, next == nil
	if next != nil {
		token = api.Token(p.query, next)
	}
	return rows, token, adjusting, nil
}

func (a *API) history(ctx context.Context, in *historyQuery) (*historyAnswer, error) {
	p, err := a.pagesOf(in)
	if err != nil {
		return nil, err
	}
	if in.Expand && in.Limit*in.Window > maxExpanded {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "with expand_underlying, limit × window must be at most %d", maxExpanded)
	}
	out := &historyAnswer{}
	out.Body.Symbol, out.Body.Provider, out.Body.Kind, out.Body.Window = p.key.Symbol, p.key.Provider, in.Kind, in.Window
	var token string
	if out.Body.Averages, token, out.Body.Adjusting, err = p.next(ctx); err != nil {
		return nil, err
	}
	if token != "" {
		out.Body.NextPageToken = &token
	}
	return out, nil
}

// csvPage is how many averages of a whole range are in memory at a time.
const csvPage = 5000

// table is the same as CSV. A cell cannot hold a list, so there are no underlying points.
func (a *API) table(_ context.Context, in *historyQuery, whole bool) (*api.Table, error) {
	if in.Expand {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "expand_underlying needs JSON")
	}
	p, err := a.pagesOf(in)
	if err != nil {
		return nil, err
	}
	if whole {
		p.in.Limit = csvPage
	}
	var next string
	return &api.Table{
		Name:    fmt.Sprintf("%s%d-%s-%s", in.Kind, in.Window, p.key.Symbol, p.key.Provider),
		Columns: []string{"as_of", "average", "adjusting"},
		Read: func(ctx context.Context) (rows [][]string, err error) {
			var page []historyAverage
			var adjusting bool
			page, next, adjusting, err = p.next(ctx)
			for _, average := range page {
				rows = append(rows, []string{average.AsOf.Format(time.RFC3339Nano), string(average.Average), strconv.FormatBool(adjusting)})
			}
			return rows, err
		},
		Next: func() string { return next },
	}, nil
}

// page computes one page and the cursor of the next, nil at the end. The first and the last of the points that it read come with it; an
// ema is also made of the points of the pages before.
func (a *API) page(
	ctx context.Context, in *historyQuery, k series.Key, r series.Range, at *cursor,
) (out []historyAverage, next *cursor, oldest, newest int64, err error) {
	points, state, err := a.material(ctx, in, k, r, at)
	if err != nil {
		return nil, nil, 0, 0, err
	}
	if len(points) > 0 {
		oldest, newest = points[0].At, points[len(points)-1].At
	}
	if state != nil {
		oldest = max(r.From, 0)
	}
	var values []decimal.Decimal
	switch in.Kind {
	case wma:
		values = series.WMA(points, in.Window)
	case ema:
		values = series.EMA(points, in.Window, state)
	case sma:
		values = series.SMA(points, in.Window)
	}
	first := len(points) - len(values) // the point that the first value belongs to
	out = make([]historyAverage, 0, min(len(values), in.Limit))
	for i, v := range values[:min(len(values), in.Limit)] {
		average := historyAverage{AsOf: utc(points[first+i].At), Average: shown(in.Kind, v)}
		if in.Expand {
			average.Previous, average.Underlying = underlying(in, points, values, state, first, i)
		}
		out = append(out, average)
	}
	if len(values) <= in.Limit {
		return out, nil, oldest, newest, nil
	}
	last := in.Limit - 1
	next = &cursor{After: points[first+last].At}
	if in.Kind == ema {
		next.ema, next.State = &values[last], values[last].String()
	}
	return out, next, oldest, newest, nil
}

// material reads the points of a page: those after the cursor; those before it that the first windows reach back to, or for an ema
// its state instead; and one more than the page shows, which tells whether there is a next page.
func (a *API) material(ctx context.Context, in *historyQuery, k series.Key, r series.Range, at *cursor) ([]series.Point, *decimal.Decimal, error) {
	if at == nil {
		points, err := a.Reads.Points(ctx, k, r, in.Window+in.Limit)
		return points, nil, err
	}
	ahead, err := a.Reads.Points(ctx, k, series.Range{From: at.After + 1, To: r.To}, in.Limit+1)
	if err != nil {
		return nil, nil, err
	}
	if in.Kind == ema {
		return ahead, at.ema, nil
	}
	behind, err := a.Reads.PointsBefore(ctx, k, series.Range{From: r.From, To: at.After + 1}, in.Window-1)
	return append(behind, ahead...), nil, err
}

func shown(k kind, v decimal.Decimal) api.Number {
	if k == ema {
		v = v.Round(series.Places)
	}
	return api.Number(v.String())
}

func underlying(in *historyQuery, points []series.Point, values []decimal.Decimal, state *decimal.Decimal, first, i int) (api.Number, []underlyingRow) {
	var previous api.Number
	from := first + i - in.Window + 1
	if in.Kind == ema && (i > 0 || state != nil) {
		from = first + i
		if i > 0 {
			previous = shown(ema, values[i-1])
		} else {
			previous = shown(ema, *state)
		}
	}
	var rows []underlyingRow
	for _, p := range points[from : first+i+1] {
		rows = append(rows, underlyingRow{utc(p.At), api.Number(p.Price.String())})
	}
	return previous, rows
}

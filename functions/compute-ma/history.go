package main

import (
	"context"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/service"
	"marketdata/shared/timerange"
)

// timeRange selects points: from (inclusive) to (exclusive), microseconds since 1970.
type timeRange struct{ from, to int64 }

type historyQuery struct {
	Symbol    string `query:"symbol" required:"true" doc:"Instrument, such as AAPL"`
	Provider  string `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent"`
	Window    int    `query:"window" default:"5" minimum:"1" maximum:"500" doc:"Points in the window"`
	Kind      string `query:"kind" default:"sma" enum:"sma,wma,ema" doc:"Simple (exact), weighted or exponential (both rounded to 12 places)"`
	Start     string `query:"start" maxLength:"64" doc:"Start of the range, inclusive: RFC 3339, a date, or milliseconds since 1970"`
	End       string `query:"end" maxLength:"64" doc:"End of the range, exclusive, in the same forms"`
	Expand    bool   `query:"expand_underlying" doc:"With the points that each average is made of"`
	Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000"`
	PageToken string `query:"page_token" maxLength:"500" doc:"next_page_token of the page before"`
}

type historyAnswer struct {
	Body struct {
		Symbol        string           `json:"symbol"`
		Provider      string           `json:"provider"`
		Kind          string           `json:"kind" enum:"sma,wma,ema"`
		Window        int              `json:"window"`
		Averages      []historyAverage `json:"averages" doc:"Oldest first; windows that are not full yet are left out"`
		NextPageToken *string          `json:"next_page_token" nullable:"true" doc:"null at the end"`
	}
}

type historyAverage struct {
	AsOf       time.Time       `json:"as_of" doc:"Observation time of the newest point used"`
	Average    service.Number  `json:"average"`
	Previous   service.Number  `json:"previous,omitempty" doc:"With expand_underlying: the ema that this one goes on from"`
	Underlying []underlyingRow `json:"underlying,omitempty" doc:"With expand_underlying: the points used, oldest first; for an ema those since previous"`
}

type underlyingRow struct {
	Timestamp time.Time      `json:"timestamp"`
	Price     service.Number `json:"price"`
}

// maxExpanded bounds the points in one answer.
const maxExpanded = 100_000

// averageHistory computes averages from the points of the range alone: the first one belongs to the range's window-th
// point. Pages join without a seam: a page token carries what the next page goes on from.
func (h *handler) averageHistory(ctx context.Context, in *historyQuery) (*historyAnswer, error) {
	k, err := h.parseSeries(in.Symbol, in.Provider)
	if err != nil {
		return nil, err
	}
	bounds, err := timerange.Parse(in.Start, in.End)
	if err != nil {
		return nil, err
	}
	r := timeRange{bounds.From.UnixMicro(), bounds.To.UnixMicro()}
	if in.Expand && in.Limit*in.Window > maxExpanded {
		return nil, fault.New(fault.Invalid, "invalid_parameter", "with expand_underlying, limit × window must be at most %d", maxExpanded)
	}
	at, err := h.pages.read(in, k, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := h.histories.take(ctx); err != nil {
		return nil, err
	}
	defer h.histories.give()
	page, next, err := h.page(ctx, in, k, r, at)
	if err != nil {
		return nil, fmt.Errorf("average history: %w", err)
	}
	out := &historyAnswer{}
	out.Body.Symbol, out.Body.Provider, out.Body.Kind, out.Body.Window = k.symbol, k.provider, in.Kind, in.Window
	out.Body.Averages = page
	if next != nil {
		token := h.pages.write(next)
		out.Body.NextPageToken = &token
	}
	return out, nil
}

// page computes one page and the cursor of the next, nil at the end.
func (h *handler) page(ctx context.Context, in *historyQuery, k seriesKey, r timeRange, at *cursor) ([]historyAverage, *cursor, error) {
	points, state, err := h.material(ctx, in, k, r, at)
	if err != nil {
		return nil, nil, err
	}
	var values []decimal.Decimal
	switch in.Kind {
	case kindWMA:
		values = wma(points, in.Window)
	case kindEMA:
		values = ema(points, in.Window, state)
	default:
		values = sma(points, in.Window)
	}
	first := len(points) - len(values) // the point that the first value belongs to
	out := make([]historyAverage, 0, min(len(values), in.Limit))
	for i, v := range values[:min(len(values), in.Limit)] {
		a := historyAverage{AsOf: utc(points[first+i].At), Average: shown(in.Kind, v)}
		if in.Expand {
			a.Previous, a.Underlying = underlying(in, points, values, state, first, i)
		}
		out = append(out, a)
	}
	if len(values) <= in.Limit {
		return out, nil, nil
	}
	last := in.Limit - 1
	next := &cursor{Query: fingerprint(in, k, r), After: points[first+last].At}
	if in.Kind == kindEMA {
		next.ema, next.State = &values[last], values[last].String()
	}
	return out, next, nil
}

// material reads what a page is made of: the points behind the cursor, before them those that its first windows reach
// back to (an ema has its state instead), and one more than the page shows, which tells whether there is another.
func (h *handler) material(ctx context.Context, in *historyQuery, k seriesKey, r timeRange, at *cursor) ([]series.Point, *decimal.Decimal, error) {
	if at == nil {
		points, err := h.reads.points(ctx, k, r, in.Window+in.Limit)
		return points, nil, err
	}
	ahead, err := h.reads.points(ctx, k, timeRange{at.After + 1, r.to}, in.Limit+1)
	if err != nil {
		return nil, nil, err
	}
	if in.Kind == kindEMA {
		return ahead, at.ema, nil
	}
	behind, err := h.reads.pointsBefore(ctx, k, timeRange{r.from, at.After + 1}, in.Window-1)
	return append(behind, ahead...), nil, err
}

func shown(kind string, v decimal.Decimal) service.Number {
	if kind == kindEMA {
		v = v.Round(places)
	}
	return service.Number(v.String())
}

func underlying(in *historyQuery, points []series.Point, values []decimal.Decimal, state *decimal.Decimal, first, i int) (service.Number, []underlyingRow) {
	var previous service.Number
	from := max(first+i-in.Window+1, 0)
	if in.Kind == kindEMA && (i > 0 || state != nil) {
		from = first + i
		if i > 0 {
			previous = shown(kindEMA, values[i-1])
		} else {
			previous = shown(kindEMA, *state)
		}
	}
	var rows []underlyingRow
	for _, p := range points[from : first+i+1] {
		rows = append(rows, underlyingRow{utc(p.At), service.Number(p.Price.String())})
	}
	return previous, rows
}

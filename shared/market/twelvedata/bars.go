package twelvedata

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

const (
	most  = 5000           // bars in an answer
	slack = 24 * time.Hour // a day is that of the exchange, and the range is in UTC
	// margin is how long after its end a bar counts as final without a later one: quotes of some exchanges are delayed, and a day is
	// that of the exchange, in New York until 05:00 UTC of the next.
	margin    = time.Hour
	dayMargin = 6 * time.Hour
)

// names has Twelve Data's names of the intervals.
var names = map[market.Interval]string{
	market.Minute: "1min", market.FiveMinutes: "5min", market.QuarterHour: "15min", market.Hour: "1h", market.Day: "1day",
}

// Intervals returns 1m, 5m, 15m, 1h and 1d.
func (p *Provider) Intervals() []market.Interval { return market.Intervals }

type series struct {
	Values []struct {
		Datetime string       `json:"datetime"` // in UTC, as we ask for; of a day, the date
		Close    *json.Number `json:"close"`
	} `json:"values"`
	refusal
}

// Bars returns closes with the digits that Twelve Data sends, in today's shares. It does not list splits.
func (p *Provider) Bars(ctx context.Context, symbol market.Symbol, interval market.Interval, from, to time.Time) (
	market.History, market.Response, error,
) {
	if err := upstream.CheckInterval(Name, interval, p.Intervals()); err != nil || !from.Before(to) {
		return market.History{}, market.Response{}, err
	}
	// Of a larger range, Twelve Data would return the newest bars only.
	end, next := upstream.Part(interval, from, to, most-2)
	first, last := from, end.Add(-time.Second) // both are included
	if interval == market.Day {
		first, last = from.Add(-slack), end.Add(slack)
	}
	answer, err := p.client.GetHistory(ctx, "/time_series", url.Values{
		"symbol": {string(symbol)}, "interval": {names[interval]}, "outputsize": {strconv.Itoa(most)}, "timezone": {"UTC"},
		"start_date": {first.UTC().Format(time.DateTime)}, "end_date": {last.UTC().Format(time.DateTime)},
	})
	if err != nil {
		return market.History{}, answer.Response, err
	}
	bars, err := parseBars(symbol, interval, answer)
	if err != nil {
		return market.History{}, answer.Response, err
	}
	clock := answer.ReceivedAt.Add(-margin)
	if interval == market.Day {
		clock = answer.ReceivedAt.Add(-dayMargin)
	}
	ends := func(start time.Time) time.Time { return start.Add(interval.Duration()) }
	return market.History{Bars: upstream.Finish(bars, from, end, clock, ends), Next: next}, answer.Response, nil
}

func parseBars(symbol market.Symbol, interval market.Interval, a upstream.Answer) ([]market.Bar, error) {
	var s series
	err := read(symbol, a, &s, &s.refusal)
	switch {
	case s.Code == http.StatusBadRequest && strings.HasPrefix(s.Message, "No data is available"):
		return nil, nil
	case err != nil:
		return nil, err
	case s.Values == nil:
		return nil, upstream.Malformed(nil, "the response is not a time series")
	}
	layout := time.DateTime
	if interval == market.Day {
		layout = time.DateOnly
	}
	// Hours begin with the session, which is at a quarter of an hour.
	step := min(interval.Duration(), market.QuarterHour.Duration())
	var bars []market.Bar
	for _, v := range s.Values {
		at, err := time.Parse(layout, v.Datetime)
		if err != nil {
			return nil, upstream.Malformed(err, "a bar's time is not valid")
		}
		start, err := upstream.Start(at, step)
		if err != nil {
			return nil, err
		}
		if upstream.IsMissing(v.Close) {
			continue
		}
		price, err := upstream.Price(v.Close)
		if err != nil {
			return nil, err
		}
		bars = append(bars, market.Bar{Start: start, Close: price})
	}
	return bars, nil
}

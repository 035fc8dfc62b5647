package coinbase

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

const (
	most   = 300         // candles in an answer: a larger range is refused
	margin = time.Minute // our clock may be ahead of Coinbase's
)

// Intervals returns 1m, 5m, 15m, 1h and 1d.
func (p *Provider) Intervals() []market.Interval { return market.Intervals }

// Bars returns closes. An interval without a trade has no bar; days are those of UTC.
func (p *Provider) Bars(ctx context.Context, symbol market.Symbol, interval market.Interval, from, to time.Time) (
	market.History, market.Response, error,
) {
	if err := upstream.CheckInterval(Name, interval, p.Intervals()); err != nil || !from.Before(to) {
		return market.History{}, market.Response{}, err
	}
	segment, err := upstream.PathSegment(symbol)
	if err != nil {
		return market.History{}, market.Response{}, err
	}
	end, next := upstream.Part(interval, from, to, most)
	answer, err := p.client.GetHistory(ctx, "/products/"+segment+"/candles", url.Values{
		"granularity": {strconv.Itoa(int(interval.Duration().Seconds()))},
		"start":       {from.UTC().Format(time.RFC3339)},
		"end":         {end.Add(-time.Second).UTC().Format(time.RFC3339)}, // included
	})
	if err != nil {
		return market.History{}, answer.Response, err
	}
	bars, err := parseBars(symbol, interval.Duration(), answer)
	if err != nil {
		return market.History{}, answer.Response, err
	}
	ends := func(start time.Time) time.Time { return start.Add(interval.Duration()) }
	return market.History{Bars: upstream.Finish(bars, from, end, answer.ReceivedAt.Add(-margin), ends), Next: next}, answer.Response, nil
}

// parseBars reads rows of time, low, high, open, close and volume, newest first.
func parseBars(symbol market.Symbol, interval time.Duration, a upstream.Answer) ([]market.Bar, error) {
	var rows [][]*json.Number
	if err := read(symbol, a, &rows); err != nil {
		return nil, err
	}
	if rows == nil {
		return nil, upstream.Malformed(nil, "the response is not a list of candles")
	}
	var bars []market.Bar
	for _, row := range rows {
		if len(row) < 6 {
			return nil, upstream.Malformed(nil, "a candle is not complete")
		}
		at, err := upstream.Seconds(row[0])
		if err != nil {
			return nil, err
		}
		start, err := upstream.Start(at, interval)
		if err != nil {
			return nil, err
		}
		if upstream.IsMissing(row[4]) {
			continue
		}
		price, err := upstream.Price(row[4])
		if err != nil {
			return nil, err
		}
		bars = append(bars, market.Bar{Start: start, Close: price})
	}
	return bars, nil
}

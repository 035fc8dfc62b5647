package binance

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
	most   = 1000        // bars in an answer
	margin = time.Minute // our clock may be ahead of Binance's
)

// Intervals returns 1m, 5m, 15m, 1h and 1d.
func (p *Provider) Intervals() []market.Interval { return market.Intervals }

// Bars returns closes. Binance has a bar for every interval since the pair is listed; its days are those of UTC.
func (p *Provider) Bars(ctx context.Context, symbol market.Symbol, interval market.Interval, from, to time.Time) (
	market.History, market.Response, error,
) {
	if err := upstream.CheckInterval(Name, interval, p.Intervals()); err != nil || !from.Before(to) {
		return market.History{}, market.Response{}, err
	}
	answer, err := p.client.GetHistory(ctx, "/api/v3/klines", url.Values{
		"symbol": {string(symbol)}, "interval": {string(interval)}, "limit": {strconv.Itoa(most)},
		"startTime": {strconv.FormatInt(max(from.UnixMilli(), 0), 10)},
		"endTime":   {strconv.FormatInt(to.UnixMilli()-1, 10)}, // included
	})
	if err != nil {
		return market.History{}, answer.Response, err
	}
	history, err := parseBars(symbol, interval, from, to, answer)
	return history, answer.Response, err
}

// parseBars reads rows of open time, open, high, low, close, volume, close time and more. With a startTime, Binance returns the oldest
// bars of the range.
func parseBars(symbol market.Symbol, interval market.Interval, from, to time.Time, a upstream.Answer) (market.History, error) {
	var rows [][]json.RawMessage
	var r refusal
	broken := a.Decode(&rows)
	if broken != nil && a.Decode(&r) == nil {
		broken = nil // an object: a refusal
	}
	if err := refused(symbol, a, r.Code, broken); err != nil {
		return market.History{}, err
	}
	if rows == nil {
		return market.History{}, upstream.Malformed(nil, "the response is not a list of bars")
	}
	var bars []market.Bar
	length := interval.Duration()
	for _, row := range rows {
		var millis int64
		var digits *json.Number
		if len(row) < 7 || json.Unmarshal(row[0], &millis) != nil || json.Unmarshal(row[4], &digits) != nil {
			return market.History{}, upstream.Malformed(nil, "a bar is not the provider's JSON")
		}
		start, err := upstream.Start(time.UnixMilli(millis), length)
		if err != nil {
			return market.History{}, err
		}
		if upstream.IsMissing(digits) {
			continue
		}
		price, err := upstream.Price(digits)
		if err != nil {
			return market.History{}, err
		}
		bars = append(bars, market.Bar{Start: start, Close: price})
	}
	var history market.History
	end := func(start time.Time) time.Time { return start.Add(length) }
	history.Bars = upstream.Finish(bars, from, to, a.ReceivedAt.Add(-margin), end)
	if n := len(history.Bars); len(rows) >= most && n > 0 && end(history.Bars[n-1].Start).Before(to) {
		history.Next = end(history.Bars[n-1].Start)
	}
	return history, nil
}

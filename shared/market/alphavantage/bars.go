package alphavantage

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

const (
	// compact is how far back the 100 newest bars of outputsize=compact go at least: there are five a week.
	compact = 19 * 7 * 24 * time.Hour
	// margin is how long after the end of its day in UTC a bar counts as final without a later one. In New York, whose days these are,
	// it ends at 05:00 UTC at the latest.
	margin = 6 * time.Hour
)

// Intervals returns 1d.
func (p *Provider) Intervals() []market.Interval { return []market.Interval{market.Day} }

// Bars returns daily closes as traded. Alpha Vantage neither converts them to today's shares after a split nor tells here that there was
// one, so an average over days on both sides of a split is wrong.
//
// A range that begins more than 19 weeks ago needs outputsize=full, which premium plans include. For other keys it is provider_auth;
// a caller that has one can ask for the newest 19 weeks instead.
func (p *Provider) Bars(ctx context.Context, symbol market.Symbol, interval market.Interval, from, to time.Time) (
	market.History, market.Response, error,
) {
	if err := upstream.CheckInterval(Name, interval, p.Intervals()); err != nil || !from.Before(to) {
		return market.History{}, market.Response{}, err
	}
	size := "compact"
	if p.client.Now().Sub(from) > compact {
		size = "full"
	}
	answer, err := p.client.GetHistory(ctx, "/query", url.Values{
		"function": {"TIME_SERIES_DAILY"}, "symbol": {string(symbol)}, "outputsize": {size},
	})
	if err != nil {
		return market.History{}, answer.Response, err
	}
	bars, err := parseBars(symbol, answer)
	if err != nil {
		return market.History{}, answer.Response, err
	}
	end := func(start time.Time) time.Time { return start.Add(interval.Duration()) }
	return market.History{Bars: upstream.Finish(bars, from, to, answer.ReceivedAt.Add(-margin), end)}, answer.Response, nil
}

func parseBars(symbol market.Symbol, a upstream.Answer) ([]market.Bar, error) {
	members, err := read(a, func(a upstream.Answer, text string) error {
		if strings.Contains(strings.ToLower(text), "invalid api call") { // all other parameters are valid
			return upstream.NotFound(symbol)
		}
		return refusal(a, text)
	})
	if err != nil {
		return nil, err
	}
	var days map[string]struct {
		Close *json.Number `json:"4. close"`
	}
	if err := json.Unmarshal(members["Time Series (Daily)"], &days); err != nil || days == nil {
		return nil, upstream.Malformed(err, "the response is not a time series")
	}
	var bars []market.Bar
	for date, d := range days {
		start, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return nil, upstream.Malformed(err, "a bar's date is not valid")
		}
		if start, err = upstream.Observed(start); err != nil {
			return nil, err
		}
		if upstream.IsMissing(d.Close) {
			continue
		}
		price, err := upstream.Price(d.Close)
		if err != nil {
			return nil, err
		}
		bars = append(bars, market.Bar{Start: start, Close: price})
	}
	return bars, nil
}

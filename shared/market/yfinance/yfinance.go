// Package yfinance reads quotes and bars from Yahoo's chart API, version 8. It needs no key.
//
// Symbols are Yahoo's own: AAPL, BRK-B, TSCO.L, ^GSPC, BTC-USD, EURUSD=X.
package yfinance

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "yfinance"

// Provider is a market.Provider and a market.Historian.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider { return &Provider{upstream.New(c, upstream.KeyPlace{})} }

// Name returns "yfinance".
func (p *Provider) Name() string { return Name }

// chart has the members of the response that we read. Unknown ones are ignored, since Yahoo adds some now and then.
type chart struct {
	Chart *struct {
		Result []result    `json:"result"`
		Error  *chartError `json:"error"`
	} `json:"chart"`
	Finance *struct { // some refusals have this envelope
		Error *chartError `json:"error"`
	} `json:"finance"`
}

// result is the only element of a chart's results. A quote needs no more of it than two members of meta, so the others are decoded
// by the history.
type result struct {
	Meta struct {
		Currency           string       `json:"currency"` // GBp, with a lower-case p, is pence
		RegularMarketPrice *json.Number `json:"regularMarketPrice"`
		RegularMarketTime  *json.Number `json:"regularMarketTime"` // of the last trade, in seconds since 1970

		PriceHint            json.RawMessage `json:"priceHint"`
		GMTOffset            json.RawMessage `json:"gmtoffset"`
		CurrentTradingPeriod json.RawMessage `json:"currentTradingPeriod"`
	} `json:"meta"`
	Timestamp  json.RawMessage `json:"timestamp"`
	Indicators json.RawMessage `json:"indicators"`
	Events     json.RawMessage `json:"events"`
}

type chartError struct {
	Code        string `json:"code"`
	Description string `json:"description"`
}

// Yahoo blocks an address, not a symbol, and for longer than a minute. An early retry prolongs the block.
const (
	statusDenied = 999 // "Request denied", Yahoo's own status
	blocked      = 15 * time.Minute
)

// Latest returns meta.regularMarketPrice, because the arrays of the chart have float32 noise and nulls.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	segment, err := upstream.PathSegment(symbol)
	if err != nil {
		return market.Quote{}, market.Response{}, err
	}
	answer, err := p.client.Get(ctx, "/v8/finance/chart/"+segment, url.Values{"interval": {"1m"}, "range": {"1d"}})
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	r, err := read(symbol, a)
	if err != nil {
		return market.Quote{}, err
	}
	price, err := upstream.Price(r.Meta.RegularMarketPrice)
	if err != nil {
		return market.Quote{}, err
	}
	at, err := upstream.Seconds(r.Meta.RegularMarketTime)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: at, Currency: r.Meta.Currency}, nil
}

// read returns the result of a chart, or the error that the response means.
func read(symbol market.Symbol, a upstream.Answer) (result, error) {
	// The bot protection responds 429 in plain text, for unknown symbols, too: the status is checked before the body.
	if a.Status == statusDenied {
		return result{}, a.Limited(blocked)
	}
	if err := a.StatusError(http.StatusNotFound); err != nil {
		return result{}, err
	}
	var c chart
	if err := a.Decode(&c); err != nil {
		return result{}, err
	}
	if err := refusal(symbol, a, c); err != nil {
		return result{}, err
	}
	switch {
	case c.Chart == nil:
		return result{}, upstream.Malformed(nil, "the response is not a chart")
	case a.Status != http.StatusOK:
		return result{}, upstream.Malformed(nil, "the provider responded with an unexpected status")
	case len(c.Chart.Result) == 0:
		return result{}, upstream.Malformed(nil, "the chart is empty")
	}
	return c.Chart.Result[0], nil
}

// refusal returns the error of the error member, which may have status 200 or a matching one; nil if there is none.
func refusal(symbol market.Symbol, a upstream.Answer, c chart) error {
	var code string
	switch {
	case c.Chart != nil && c.Chart.Error != nil:
		code = c.Chart.Error.Code
	case c.Finance != nil && c.Finance.Error != nil:
		code = c.Finance.Error.Code
	default:
		return nil
	}
	switch strings.ToLower(code) {
	case "not found":
		return upstream.NotFound(symbol)
	case "too many requests":
		return a.Limited(time.Minute)
	case "unauthorized", "forbidden":
		return upstream.Refused()
	case "internal server error", "internal-error", "service unavailable":
		return a.Unavailable()
	}
	return upstream.Malformed(nil, "the provider responded with an unknown error")
}

var (
	_ market.Provider  = (*Provider)(nil)
	_ market.Historian = (*Provider)(nil)
)

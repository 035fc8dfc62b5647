// Package yfinance reads quotes from Yahoo's chart API, version 8. It needs no key.
//
// Symbols are Yahoo's own: AAPL, BRK-B, TSCO.L, ^GSPC, BTC-USD, EURUSD=X.
package yfinance

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "yfinance"

// Provider is a market.Provider.
type Provider struct{ client *upstream.Client }

// New makes the adapter.
func New(c upstream.Config) *Provider { return &Provider{upstream.New(c, upstream.KeyPlace{})} }

// Name is "yfinance".
func (p *Provider) Name() string { return Name }

// chart is what we read of the answer; unknown members are tolerated, since Yahoo adds some now and then.
type chart struct {
	Chart *struct {
		Result []struct {
			Meta struct {
				Currency           string       `json:"currency"` // GBp, in lower case, is pence
				RegularMarketPrice *json.Number `json:"regularMarketPrice"`
				RegularMarketTime  *int64       `json:"regularMarketTime"` // seconds since 1970
			} `json:"meta"`
		} `json:"result"`
		Error *struct {
			Code string `json:"code"`
		} `json:"error"`
	} `json:"chart"`
}

// Latest reads meta.regularMarketPrice: the arrays of the chart carry float32 noise and nulls.
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
	// The wall against bots answers 429 in plain text, for unknown symbols too: the status speaks before the body.
	if err := a.StatusError(http.StatusNotFound); err != nil {
		return market.Quote{}, err
	}
	var c chart
	if err := a.Decode(&c); err != nil {
		return market.Quote{}, err
	}
	switch {
	case c.Chart == nil:
		return market.Quote{}, upstream.Malformed(nil, "the answer is not a chart")
	case c.Chart.Error != nil && c.Chart.Error.Code == "Not Found": // on status 404 and on 200 alike
		return market.Quote{}, upstream.NotFound(symbol)
	case c.Chart.Error != nil || a.Status != http.StatusOK:
		return market.Quote{}, upstream.Malformed(nil, "the provider answers with an error of its own")
	case len(c.Chart.Result) == 0:
		return market.Quote{}, upstream.Malformed(nil, "the chart is empty")
	}
	meta := c.Chart.Result[0].Meta
	price, err := upstream.Price(meta.RegularMarketPrice)
	if err != nil {
		return market.Quote{}, err
	}
	if meta.RegularMarketTime == nil {
		return market.Quote{}, upstream.Malformed(nil, "the chart has no time")
	}
	return market.Quote{
		Symbol: symbol, Provider: Name, Price: price, ObservedAt: time.Unix(*meta.RegularMarketTime, 0).UTC(),
		Currency: meta.Currency,
	}, nil
}

var _ market.Provider = (*Provider)(nil)

// Package yfinance reads quotes from Yahoo's chart API, version 8.
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

// Provider is a market.Provider.
type Provider struct {
	baseURL string
	client  *upstream.Client
}

// New makes the adapter; baseURL without a trailing slash.
func New(baseURL string, client *upstream.Client) *Provider {
	return &Provider{strings.TrimRight(baseURL, "/"), client}
}

// Name is "yfinance".
func (p *Provider) Name() string { return Name }

// chart is what we read of the answer; unknown members are tolerated, since Yahoo adds some now and then.
type chart struct {
	Chart *struct {
		Result []struct {
			Meta struct {
				Currency           string       `json:"currency"`
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
	target := p.baseURL + "/v8/finance/chart/" + url.PathEscape(string(symbol)) + "?interval=1m&range=1d"
	resp, err := p.client.Get(ctx, target, nil)
	if err != nil {
		return market.Quote{}, resp, err
	}
	quote, err := parse(symbol, resp)
	return quote, resp, err
}

func parse(symbol market.Symbol, resp market.Response) (market.Quote, error) {
	// The wall against bots answers 429 in plain text, for unknown symbols too: the status speaks before the body.
	if err := upstream.StatusError(resp.Status, http.StatusNotFound); err != nil {
		return market.Quote{}, err
	}
	var c chart
	if err := json.Unmarshal(resp.Body, &c); err != nil || c.Chart == nil {
		if resp.Status == http.StatusNotFound {
			return market.Quote{}, upstream.NotFound(symbol)
		}
		return market.Quote{}, upstream.Malformed(err, "the answer is not a chart")
	}
	switch {
	case c.Chart.Error != nil && c.Chart.Error.Code == "Not Found": // on status 404 and on 200 alike
		return market.Quote{}, upstream.NotFound(symbol)
	case c.Chart.Error != nil || resp.Status != http.StatusOK:
		return market.Quote{}, upstream.Malformed(nil, "the provider answers with an error of its own")
	case len(c.Chart.Result) == 0:
		return market.Quote{}, upstream.Malformed(nil, "the chart is empty")
	}
	meta := c.Chart.Result[0].Meta
	if meta.RegularMarketPrice == nil || meta.RegularMarketTime == nil {
		return market.Quote{}, upstream.Malformed(nil, "the chart has no price")
	}
	price, err := market.ParsePrice(meta.RegularMarketPrice.String())
	if err != nil {
		return market.Quote{}, upstream.Malformed(err, "the chart's price is not usable")
	}
	return market.Quote{
		Symbol: symbol, Provider: Name, Price: price, ObservedAt: time.Unix(*meta.RegularMarketTime, 0).UTC(),
		Currency: meta.Currency,
	}, nil
}

var _ market.Provider = (*Provider)(nil)

// Package finnhub reads quotes from Finnhub's /quote. It needs a key, sent in a header.
//
// Symbols are Finnhub's own: AAPL, BINANCE:BTCUSDT, OANDA:EUR_USD. The answer names no currency.
package finnhub

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "finnhub"

// Provider is a market.Provider.
type Provider struct{ client *upstream.Client }

// New makes the adapter.
func New(c upstream.Config) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Header: "X-Finnhub-Token"})}
}

// Name is "finnhub".
func (p *Provider) Name() string { return Name }

type reply struct {
	Current *json.Number `json:"c"`
	Time    *int64       `json:"t"` // seconds since 1970
}

// Latest reads the current price. An unknown symbol is a quote of zeros, with status 200; so is, now and then, a known
// one while Finnhub is overloaded (Finnhub-API issue 54): "not found" must not be remembered for long.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	answer, err := p.client.Get(ctx, "/api/v1/quote", url.Values{"symbol": {string(symbol)}})
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	// Finnhub refuses with a status: 401 no or bad key, 403 another plan, 429 the limit (per second or per minute).
	if err := a.StatusError(); err != nil {
		return market.Quote{}, err
	}
	var r reply
	if err := a.Decode(&r); err != nil {
		return market.Quote{}, err
	}
	switch {
	case r.Time == nil:
		return market.Quote{}, upstream.Malformed(nil, "the answer is not a quote")
	case *r.Time == 0:
		return market.Quote{}, upstream.NotFound(symbol)
	}
	// Before the market opens c may be 0 beside real prices (issue 88): that is no price.
	price, err := upstream.Price(r.Current)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: time.Unix(*r.Time, 0).UTC()}, nil
}

var _ market.Provider = (*Provider)(nil)

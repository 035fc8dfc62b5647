// Package coinbase reads prices from Coinbase Exchange, /products/{id}/ticker. It needs no key.
//
// Symbols are Coinbase's product ids: BTC-USD, not BTCUSDT. The response has no currency.
package coinbase

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "coinbase"

// Provider is a market.Provider.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider { return &Provider{upstream.New(c, upstream.KeyPlace{})} }

// Name returns "coinbase".
func (p *Provider) Name() string { return Name }

type reply struct {
	Price   *json.Number `json:"price"`
	Time    *time.Time   `json:"time"` // of the last trade
	Message string       `json:"message"`
}

// Latest returns the price of the last trade.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	segment, err := upstream.PathSegment(symbol)
	if err != nil {
		return market.Quote{}, market.Response{}, err
	}
	answer, err := p.client.Get(ctx, "/products/"+segment+"/ticker", nil)
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	if a.Status == http.StatusTooManyRequests {
		return market.Quote{}, a.Limited(time.Second) // the limit of public calls is per second
	}
	if err := a.StatusError(http.StatusNotFound, http.StatusBadRequest); err != nil {
		return market.Quote{}, err
	}
	var r reply
	if err := a.Decode(&r); err != nil {
		return market.Quote{}, err
	}
	switch message := strings.ToLower(r.Message); {
	case message == "notfound", message == "product not found", message == "not allowed for delisted products": // on 404 and 400
		return market.Quote{}, upstream.NotFound(symbol)
	case a.Status != http.StatusOK || r.Time == nil:
		return market.Quote{}, upstream.Malformed(nil, "the response is not a ticker")
	}
	price, err := upstream.Price(r.Price)
	if err != nil {
		return market.Quote{}, err
	}
	at, err := upstream.Observed(*r.Time)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: at}, nil
}

var _ market.Provider = (*Provider)(nil)

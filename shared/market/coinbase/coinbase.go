// Package coinbase reads prices and bars from Coinbase Exchange, /products/{id}/ticker and /products/{id}/candles. It needs no key.
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

// Provider is a market.Provider and a market.Historian.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider { return &Provider{upstream.New(c, upstream.KeyPlace{})} }

// Name returns "coinbase".
func (p *Provider) Name() string { return Name }

type reply struct {
	Price *json.Number `json:"price"`
	Time  *time.Time   `json:"time"` // of the last trade
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
	var r reply
	if err := read(symbol, a, &r); err != nil {
		return market.Quote{}, err
	}
	if r.Time == nil {
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

// read decodes a response into v, or returns the error that it means.
func read(symbol market.Symbol, a upstream.Answer, v any) error {
	if a.Status == http.StatusTooManyRequests {
		return a.Limited(time.Second) // the limit of public calls is per second
	}
	if err := a.StatusError(http.StatusNotFound, http.StatusBadRequest); err != nil {
		return err
	}
	var r struct {
		Message string `json:"message"`
	}
	if err := a.Decode(&r); err == nil {
		switch strings.ToLower(r.Message) {
		case "notfound", "product not found", "not allowed for delisted products": // on 404 and 400
			return upstream.NotFound(symbol)
		}
	}
	if err := a.Decode(v); err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return upstream.Malformed(nil, "the provider responded with an unexpected status")
	}
	return nil
}

var (
	_ market.Provider  = (*Provider)(nil)
	_ market.Historian = (*Provider)(nil)
)

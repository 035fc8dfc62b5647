// Package binance reads prices and bars from Binance's spot API, /api/v3/ticker/price and /api/v3/klines. It needs no key.
//
// Symbols are Binance's own: BTCUSDT, not BTC-USD. They are not translated, because a tether is not a dollar. The response has no
// time, so a quote has its receive time. It has no currency.
package binance

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "binance"

// Codes of developers.binance.com/docs/binance-spot-api-docs/errors that mean more than their status.
const (
	codeLimit    = -1003 // too much request weight used; with status 418 the address is banned
	codeOrders   = -1015 // another limit
	codeCharset  = -1100 // characters that are not valid in Binance's symbols
	codeNoSymbol = -1121
)

// transient are the codes of transient errors, which may have a 4xx status: unknown, disconnected, unexpected response, timeout,
// overloaded, shutting down.
var transient = []int{-1000, -1001, -1006, -1007, -1008, -1016}

// Provider is a market.Provider and a market.Historian.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider { return &Provider{upstream.New(c, upstream.KeyPlace{})} }

// Name returns "binance".
func (p *Provider) Name() string { return Name }

type reply struct {
	Price *json.Number `json:"price"`
	refusal
}

type refusal struct {
	Code int `json:"code"` // negative; 0 if the caller's country is not served
}

// Latest returns the price of the last trade.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	answer, err := p.client.Get(ctx, "/api/v3/ticker/price", url.Values{"symbol": {string(symbol)}})
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	var r reply
	broken := a.Decode(&r)
	if err := refused(symbol, a, r.Code, broken); err != nil {
		return market.Quote{}, err
	}
	price, err := upstream.Price(r.Price)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: a.ReceivedAt, Undated: true}, nil
}

// refused returns the error of a refusal with a code, or of a response that could not be decoded; nil if it is neither.
func refused(symbol market.Symbol, a upstream.Answer, code int, broken error) error {
	switch {
	case code == codeLimit, code == codeOrders, a.Status == http.StatusTeapot:
		return a.Limited(time.Minute) // a ban is longer, and has a Retry-After
	case code == codeNoSymbol, code == codeCharset:
		return upstream.NotFound(symbol)
	case slices.Contains(transient, code):
		return a.Unavailable()
	case a.Status == http.StatusUnavailableForLegalReasons: // the caller's country is not served
		return upstream.Refused()
	case a.Status == http.StatusForbidden && broken != nil:
		// The firewall's web page: a limit is exceeded, or the address is blocked (docs: HTTP return codes). There is no key that
		// could be refused.
		return a.Limited(time.Minute)
	}
	if err := a.StatusError(); err != nil {
		return err
	}
	return broken
}

var (
	_ market.Provider  = (*Provider)(nil)
	_ market.Historian = (*Provider)(nil)
)

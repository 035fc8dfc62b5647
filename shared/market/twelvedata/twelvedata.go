// Package twelvedata reads quotes from Twelve Data's /quote, and bars from its /time_series. Unlike /price, /quote returns time and
// currency, at the same cost of one credit; a time series costs one credit, too. It needs a key, sent in a header.
//
// Symbols are Twelve Data's own: AAPL, BTC/USD, TSCO:LSE.
package twelvedata

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "twelve_data"

// Provider is a market.Provider and a market.Historian.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Header: "Authorization", Prefix: "apikey "})}
}

// Name returns "twelve_data".
func (p *Provider) Name() string { return Name }

type reply struct {
	Close    *json.Number `json:"close"` // of the current bar: the latest price
	Currency string       `json:"currency"`
	// LastQuoteAt is when the price was quoted, in seconds since 1970. The members timestamp and datetime are not used: they are the
	// start of the bar, which for the daily bar of this call is a date.
	LastQuoteAt *json.Number `json:"last_quote_at"`

	refusal
}

// refusal has the members of a refusal.
type refusal struct {
	Code    int    `json:"code"` // of a refusal, as an HTTP status
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Latest returns the latest price.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	answer, err := p.client.Get(ctx, "/quote", url.Values{"symbol": {string(symbol)}})
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	var r reply
	if err := read(symbol, a, &r, &r.refusal); err != nil {
		return market.Quote{}, err
	}
	price, err := upstream.Price(r.Close)
	if err != nil {
		return market.Quote{}, err
	}
	q := market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: a.ReceivedAt, Undated: true, Currency: r.Currency}
	if r.LastQuoteAt != nil && r.LastQuoteAt.String() != "0" {
		q.ObservedAt, err = upstream.Seconds(r.LastQuoteAt)
		q.Undated = false
	}
	if err != nil {
		return market.Quote{}, err
	}
	return q, nil
}

// read decodes a response into v, of which r is a part, or returns the error that the response means.
func read(symbol market.Symbol, a upstream.Answer, v any, r *refusal) error {
	if err := a.Decode(v); err != nil {
		// The response is from a proxy, not from Twelve Data: only the status counts.
		if status := a.StatusError(); status != nil {
			return status
		}
		return err
	}
	if r.Code != 0 || r.Status == "error" {
		return r.fault(symbol, a)
	}
	return a.StatusError()
}

// fault classifies by the code in the body, because the HTTP status is often 200.
func (r refusal) fault(symbol market.Symbol, a upstream.Answer) error {
	message := strings.ToLower(r.Message)
	has := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case r.Code == http.StatusTooManyRequests && has("for the day"):
		return a.LimitedToday()
	case r.Code == http.StatusNotFound && has("available starting with"): // a symbol of a larger plan
		return upstream.Refused()
	case r.Code == http.StatusNotFound, r.Code == http.StatusBadRequest && has("**symbol**"):
		return upstream.NotFound(symbol)
	case r.Code == http.StatusOK || r.Code == 0:
		return upstream.Malformed(nil, "the provider reports an error without a code")
	}
	a.Status = r.Code
	return a.StatusError()
}

var (
	_ market.Provider  = (*Provider)(nil)
	_ market.Historian = (*Provider)(nil)
)

// Package finnhub reads quotes from Finnhub's /quote. It needs a key, sent in a header.
//
// Symbols are Finnhub's own: AAPL, BINANCE:BTCUSDT, OANDA:EUR_USD. The response has no currency.
package finnhub

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "finnhub"

// Provider is a market.Provider.
type Provider struct{ client *upstream.Client }

// New returns the adapter.
func New(c upstream.Config) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Header: "X-Finnhub-Token"})}
}

// Name returns "finnhub".
func (p *Provider) Name() string { return Name }

type reply struct {
	Current *json.Number `json:"c"`
	Time    *json.Number `json:"t"` // seconds since 1970
}

// Latest returns the current price. The response for an unknown symbol is a quote of zeros with status 200, and sometimes for a
// known one while Finnhub is overloaded (Finnhub-API issue 54). So symbol_not_found must not be cached for long.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	answer, err := p.client.Get(ctx, "/api/v1/quote", url.Values{"symbol": {string(symbol)}})
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	var r reply
	broken := a.Decode(&r)
	if broken != nil || a.Status != http.StatusOK || r.Time == nil {
		return market.Quote{}, refusal(symbol, a, broken)
	}
	if r.Time.String() == "0" {
		return market.Quote{}, upstream.NotFound(symbol)
	}
	// Before the market opens, c may be 0 while other members have prices (issue 88). Then there is no price.
	price, err := upstream.Price(r.Current)
	if err != nil {
		return market.Quote{}, err
	}
	at, err := upstream.Seconds(r.Time)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: at}, nil
}

// refusal classifies a response that is not a quote. The same messages have had statuses 200, 400, 401, 403, 404 and 422, in the
// member "error", as a JSON string and as plain text. Unless the status means that the provider is down or its limit exceeded,
// the message decides.
func refusal(symbol market.Symbol, a upstream.Answer, broken error) error {
	text := strings.ToLower(string(a.Body))
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
	}
	page := strings.HasPrefix(strings.TrimSpace(text), "<")
	switch {
	case a.Status == http.StatusTooManyRequests, a.Status >= 500, page:
	case has("limit reached"):
		return a.Limited(time.Minute)
	case has("have access", "api key", "premium"):
		return upstream.Refused()
	case has("symbol") && has("not supported", "not found", "invalid", "wrong", "unknown"):
		return upstream.NotFound(symbol)
	}
	if err := a.StatusError(); err != nil {
		return err
	}
	if broken != nil {
		return broken
	}
	return upstream.Malformed(nil, "the response is not a quote")
}

var _ market.Provider = (*Provider)(nil)

// Package finnhub reads quotes from Finnhub's /quote. It needs a key, sent in a header.
//
// Symbols are Finnhub's own: AAPL, BINANCE:BTCUSDT, OANDA:EUR_USD. The answer names no currency.
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

// New makes the adapter.
func New(c upstream.Config) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Header: "X-Finnhub-Token"})}
}

// Name is "finnhub".
func (p *Provider) Name() string { return Name }

type reply struct {
	Current *json.Number `json:"c"`
	Time    *json.Number `json:"t"` // seconds since 1970
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
	var r reply
	broken := a.Decode(&r)
	if broken != nil || a.Status != http.StatusOK || r.Time == nil {
		return market.Quote{}, refusal(symbol, a, broken)
	}
	if r.Time.String() == "0" {
		return market.Quote{}, upstream.NotFound(symbol)
	}
	// Before the market opens c may be 0 beside real prices (issue 88): that is no price.
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

// refusal classifies an answer that is no quote. The same sentences have come with statuses 200, 400, 401, 403, 404 and
// 422, under "error", as a bare JSON string and as plain text: where the status does not say that the provider is down or
// its limit spent, the sentence says more than the status.
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
	return upstream.Malformed(nil, "the answer is not a quote")
}

var _ market.Provider = (*Provider)(nil)

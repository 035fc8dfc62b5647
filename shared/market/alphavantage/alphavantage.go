// Package alphavantage reads quotes from Alpha Vantage's GLOBAL_QUOTE. It needs a key, which Alpha Vantage takes in the
// query only.
//
// Symbols are Alpha Vantage's own: AAPL, TSCO.LON, SHOP.TRT. The answer has no time but a day, so a quote carries the
// time of its receipt; it names no currency.
package alphavantage

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Name is the provider's name in the API and in events.
const Name = "alpha_vantage"

// Provider is a market.Provider.
type Provider struct{ client *upstream.Client }

// New makes the adapter.
func New(c upstream.Config) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Query: "apikey"})}
}

// Name is "alpha_vantage".
func (p *Provider) Name() string { return Name }

// reply is what we read of the answer. Every refusal comes with status 200, under one of three names.
type reply struct {
	Quote *struct {
		Price *json.Number `json:"05. price"`
		// An unknown symbol is a quote without any member, even this one.
		Symbol *string `json:"01. symbol"`
	} `json:"Global Quote"`
	Error       string `json:"Error Message"`
	Note        string `json:"Note"`
	Information string `json:"Information"`
}

// Latest reads the price of the last trade that the key's plan shows.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	query := url.Values{"function": {"GLOBAL_QUOTE"}, "symbol": {string(symbol)}}
	answer, err := p.client.Get(ctx, "/query", query)
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	if err := a.StatusError(); err != nil {
		return market.Quote{}, err
	}
	var r reply
	if err := a.Decode(&r); err != nil {
		return market.Quote{}, err
	}
	if text := r.Error + r.Note + r.Information; text != "" {
		return market.Quote{}, refusal(a, text)
	}
	switch {
	case r.Quote == nil:
		return market.Quote{}, upstream.Malformed(nil, "the answer is not a quote")
	case r.Quote.Symbol == nil && r.Quote.Price == nil:
		return market.Quote{}, upstream.NotFound(symbol)
	}
	price, err := upstream.Price(r.Quote.Price)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: a.ReceivedAt, Undated: true}, nil
}

// refusal classifies by the text: the same text has come under different names over the years, and almost every text
// offers premium plans and mentions the limit per day. Order matters: the text about bursts speaks of both limits, the
// one about the day of one. (A wrong key is told the text about the day, too: nothing tells the two apart.)
func refusal(a upstream.Answer, text string) error {
	text = strings.ToLower(text)
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("apikey is invalid or missing"), has("api key is for demo purposes"), has("this is a premium endpoint"):
		return upstream.Refused()
	case has("per second"), has("more sparingly"):
		return a.Limited(2 * time.Second)
	case has("per minute"), has("higher api call volume"):
		return a.Limited(time.Minute)
	case has("per day"):
		return a.LimitedToday()
	}
	return upstream.Malformed(nil, "the provider refuses the call in words we do not know")
}

var _ market.Provider = (*Provider)(nil)

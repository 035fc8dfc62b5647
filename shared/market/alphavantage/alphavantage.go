// Package alphavantage reads quotes and daily bars from Alpha Vantage's GLOBAL_QUOTE and TIME_SERIES_DAILY. It needs a key, which
// Alpha Vantage accepts in the query only.
//
// Symbols are Alpha Vantage's own: AAPL, TSCO.LON, SHOP.TRT. The response has a date but no time, so a quote has its receive
// time. It has no currency.
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

// Provider is a market.Provider and a market.Historian.
type Provider struct {
	client      *upstream.Client
	entitlement string
}

// Entitlements are the values of the parameter of that name, with which premium plans get US quotes that are newer than the last
// close. If it is empty, the parameter is not sent.
var Entitlements = []string{"", "delayed", "realtime"}

// New returns the adapter. entitlement is one of [Entitlements].
func New(c upstream.Config, entitlement string) *Provider {
	return &Provider{upstream.New(c, upstream.KeyPlace{Query: "apikey"}), entitlement}
}

// Name returns "alpha_vantage".
func (p *Provider) Name() string { return Name }

type reply struct {
	Price *json.Number `json:"05. price"`
	// Absent, like all members, for an unknown symbol.
	Symbol *string `json:"01. symbol"`
}

// quoteName begins the name of the quote's member. With an entitlement that is "Global Quote - DATA DELAYED BY 15 MINUTES".
const quoteName = "Global Quote"

// refusals are the members with which Alpha Vantage refuses a call, with status 200.
var refusals = []string{"Error Message", "Note", "Information"}

// Latest returns the price of the last trade that the key's plan includes.
func (p *Provider) Latest(ctx context.Context, symbol market.Symbol) (market.Quote, market.Response, error) {
	query := url.Values{"function": {"GLOBAL_QUOTE"}, "symbol": {string(symbol)}}
	if p.entitlement != "" {
		query.Set("entitlement", p.entitlement)
	}
	answer, err := p.client.Get(ctx, "/query", query)
	if err != nil {
		return market.Quote{}, answer.Response, err
	}
	quote, err := parse(symbol, answer)
	return quote, answer.Response, err
}

func parse(symbol market.Symbol, a upstream.Answer) (market.Quote, error) {
	members, err := read(a, refusal)
	if err != nil {
		return market.Quote{}, err
	}
	r, err := quoteOf(members)
	switch {
	case err != nil:
		return market.Quote{}, err
	case r == nil:
		return market.Quote{}, upstream.Malformed(nil, "the response is not a quote")
	case r.Symbol == nil && r.Price == nil:
		return market.Quote{}, upstream.NotFound(symbol)
	}
	price, err := upstream.Price(r.Price)
	if err != nil {
		return market.Quote{}, err
	}
	return market.Quote{Symbol: symbol, Provider: Name, Price: price, ObservedAt: a.ReceivedAt, Undated: true}, nil
}

// read returns the members of a response, or the error that refusal returns for the text of one.
func read(a upstream.Answer, refusal func(a upstream.Answer, text string) error) (map[string]json.RawMessage, error) {
	if err := a.StatusError(); err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := a.Decode(&members); err != nil {
		return nil, err
	}
	for _, name := range refusals {
		if words := string(members[name]); words != "" && words != `""` && words != "null" {
			return nil, refusal(a, words)
		}
	}
	return members, nil
}

// quoteOf returns the quote among the response's members; nil if there is none.
func quoteOf(members map[string]json.RawMessage) (r *reply, err error) {
	for name, value := range members {
		if strings.HasPrefix(name, quoteName) {
			if err := json.Unmarshal(value, &r); err != nil {
				return nil, upstream.Malformed(err, "the response is not the provider's JSON")
			}
			return r, nil
		}
	}
	return nil, nil //nolint:nilnil // see above
}

// refusal classifies a refusal by its text: the same text has had different member names over the years, and almost every text
// offers premium plans and mentions the limit per day. Order matters: the text about bursts mentions both limits, the text about
// the day only one. (The response to a wrong key may have the text about the day, too; the two cannot be distinguished.)
func refusal(a upstream.Answer, text string) error {
	text = strings.ToLower(text)
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("apikey is invalid or missing"), has("api key is for demo purposes"), has("this is a premium endpoint"),
		has("premium feature"), has("entitlement"):
		return upstream.Refused()
	case has("per second"), has("more sparingly"):
		return a.Limited(2 * time.Second)
	case has("per minute"), has("higher api call volume"):
		return a.Limited(time.Minute)
	case has("per day"):
		return a.LimitedToday()
	}
	return upstream.Malformed(nil, "the provider refuses the call with an unknown message")
}

var (
	_ market.Provider  = (*Provider)(nil)
	_ market.Historian = (*Provider)(nil)
)

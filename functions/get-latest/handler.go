package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/service"
)

type handler struct {
	prices          *prices
	points          points
	known           func(provider string) bool
	defaultProvider string
	private         bool // clients need API keys, so shared caches must not answer for us
}

// maxSymbols bounds a batch.
const maxSymbols = 50

func (h *handler) routes(srv *service.Service, latest, history service.Middleware) {
	service.Handle(srv, latestOperation, h.latest, latest, h.hit)
	service.Handle(srv, huma.Operation{
		OperationID: "price-history", Method: http.MethodGet, Path: "/prices/history", Tags: []string{"prices"},
		Summary: "The stored prices of an instrument, in pages",
		Errors:  []int{400, 429, 500, 503},
	}, h.history, history)
	srv.Document(describe)
}

var latestOperation = huma.Operation{
	OperationID: "latest-price", Method: http.MethodGet, Path: "/prices/latest", Tags: []string{"prices"},
	Summary:     "The latest price of an instrument, or of several",
	Description: "Give symbol or symbols. A batch always answers 200: each symbol is in prices or in errors, and one that fails leaves the others alone.",
	Parameters: []*huma.Param{{
		Name: "If-None-Match", In: "header", Description: "ETags of the prices that the client has",
		Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}},
	}},
	Errors: []int{400, 404, 429, 500, 502, 503, 504},
}

// describe says in the document what the library cannot know: the shapes of an answer that is written as bytes, and the codes
// of each error status.
func describe(doc *huma.OpenAPI) {
	latest, history := doc.Paths["/prices/latest"].Get, doc.Paths["/prices/history"].Get
	one := doc.Components.Schemas.Schema(reflect.TypeFor[priceBody](), true, "Price")
	many := doc.Components.Schemas.Schema(reflect.TypeFor[batchBody](), true, "Prices")
	latest.Responses["200"].Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{one, many}}},
	}
	latest.Responses["304"] = &huma.Response{}
	for path, providers := range map[string]string{"/prices/latest": "", "/prices/history": market.ProviderPattern} {
		symbol, provider := service.Parameter(doc, path, "symbol"), service.Parameter(doc, path, "provider")
		symbol.Pattern, provider.Pattern = market.SymbolPattern, providers
		longest := market.LongestName
		symbol.MaxLength, provider.MaxLength = &longest, &longest
	}
	for _, name := range append(market.Providers(), auto) {
		known := service.Parameter(doc, "/prices/latest", "provider")
		known.Enum = append(known.Enum, name)
	}
	for status, text := range map[int]string{
		200: "The price, or the prices", 304: "The client has this price: its ETag is in If-None-Match",
		400: "invalid_symbol, unknown_provider or invalid_parameter", 404: "symbol_not_found", 429: "rate_limited", 500: "internal",
		502: "provider_malformed or provider_auth", 503: "provider_rate_limited, provider_unavailable or storage_unavailable",
		504: "provider_timeout",
	} {
		latest.Responses[strconv.Itoa(status)].Description = text
	}
	for status, text := range map[int]string{
		400: "invalid_symbol, invalid_provider or invalid_parameter", 429: "rate_limited", 500: "internal", 503: "storage_unavailable",
	} {
		history.Responses[strconv.Itoa(status)].Description = text
	}
}

type priceQuery struct {
	Symbol   string   `query:"symbol" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & + (the last two escaped, as %26 and %2B); lower case is raised"`
	Symbols  []string `query:"symbols" maxItems:"50" doc:"Instruments of a batch, separated by commas; duplicates are folded"`
	Provider string   `query:"provider" doc:"Provider, DEFAULT_PROVIDER if absent; auto: the first of PROVIDER_CHAIN that answers"`
	held     []string // If-None-Match, line by line
}

// Resolve takes every line of If-None-Match: the library would give the first.
func (q *priceQuery) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	q.held = r.Header["If-None-Match"]
	return nil
}

type priceAnswer struct {
	Status       int
	ContentType  string `header:"Content-Type" hidden:"true"`
	Cache        string `header:"X-Cache" doc:"HIT, MISS or STALE; of a batch the worst, where a symbol that failed counts as MISS"`
	Age          int    `header:"Age" doc:"Seconds since the price was fetched; of a batch the most"`
	CacheControl string `header:"Cache-Control" doc:"max-age: seconds from the fetch for which the price is fresh (a cache subtracts Age); 0 if it is stale or a symbol of a batch failed. private where clients need an API key"`
	ETag         string `header:"ETag" doc:"Names this answer; absent if a symbol of a batch failed"`
	Body         []byte
}

type priceBody struct {
	Symbol         string         `json:"symbol" example:"AAPL"`
	Price          service.Number `json:"price" doc:"Exact digits as the provider gave them"`
	Timestamp      time.Time      `json:"timestamp" doc:"When the provider observed the price"`
	Provider       string         `json:"provider" example:"yfinance"`
	Currency       string         `json:"currency,omitempty" doc:"As the provider names it; minor units (GBp) are not divided"`
	Stale          bool           `json:"stale,omitempty" doc:"The provider failed; this is an older price"`
	FallbackFrom   string         `json:"fallback_from,omitempty" doc:"With provider=auto: the first of the chain, if another answered in its place"`
	FallbackReason string         `json:"fallback_reason,omitempty" doc:"The code of what kept it from answering"`
}

type batchBody struct {
	Prices map[string]priceBody        `json:"prices" doc:"By symbol"`
	Errors map[string]*service.Problem `json:"errors" doc:"By symbol, as it was given"`
}

func (h *handler) latest(ctx context.Context, in *priceQuery) (*priceAnswer, error) {
	provider := in.Provider
	if provider == "" {
		provider = h.defaultProvider
	}
	if provider != auto && !h.known(provider) {
		return nil, fault.New(fault.Invalid, "unknown_provider", "there is no provider of that name")
	}
	if (in.Symbol == "") == (len(in.Symbols) == 0) {
		return nil, fault.New(fault.Invalid, "invalid_parameter", "give either symbol or symbols")
	}
	if in.Symbol == "" {
		return h.batch(ctx, in, provider)
	}
	symbol, err := market.ParseSymbol(in.Symbol)
	if err != nil {
		return nil, err
	}
	f, err := h.prices.find(ctx, provider, symbol)
	if err != nil {
		return nil, err
	}
	return h.answer(in, f.how, f.entry, etag(f), bodyOf(f))
}

// batch answers several symbols as one request.
func (h *handler) batch(ctx context.Context, in *priceQuery, provider string) (*priceAnswer, error) {
	body := batchBody{Prices: map[string]priceBody{}, Errors: map[string]*service.Problem{}}
	var symbols []market.Symbol
	seen := map[market.Symbol]bool{}
	for _, text := range in.Symbols {
		symbol, err := market.ParseSymbol(text)
		if err != nil {
			body.Errors[text] = service.NewProblem(err, service.RequestID(ctx))
		} else if !seen[symbol] {
			seen[symbol] = true
			symbols = append(symbols, symbol)
		}
	}
	how, worst, tags := "HIT", pricecache.Entry{Left: math.MaxInt64}, sha256.New()
	for i, r := range h.prices.findAll(ctx, provider, symbols) {
		if r.err != nil {
			body.Errors[string(symbols[i])] = service.NewProblem(r.err, service.RequestID(ctx))
			continue
		}
		body.Prices[string(symbols[i])] = bodyOf(r.found)
		how = worse(how, r.found.how)
		worst.Age, worst.Left = max(worst.Age, r.found.entry.Age), min(worst.Left, r.found.entry.Left)
		tags.Write([]byte(string(symbols[i]) + etag(r.found))) // a hash takes everything
	}
	tag := `"` + hex.EncodeToString(tags.Sum(nil)[:16]) + `"`
	if len(body.Errors) > 0 {
		how = worse(how, "MISS")
		worst.Left, tag = 0, "" // problems are of the moment, and name their request
	}
	return h.answer(in, how, worst, tag, body)
}

// worse returns the worse of two values of X-Cache.
func worse(a, b string) string {
	for _, how := range []string{"STALE", "MISS"} {
		if a == how || b == how {
			return how
		}
	}
	return "HIT"
}

// answer puts age and lifetime of e into headers, and body only if the client does not have it. max-age counts from the
// fetch (RFC 9111 section 4.2): caches subtract Age themselves. What is no longer fresh has none left, whatever its age.
func (h *handler) answer(in *priceQuery, how string, e pricecache.Entry, tag string, body any) (*priceAnswer, error) {
	lifetime := 0
	if e.Left > 0 {
		lifetime = int((e.Age + e.Left).Seconds())
	}
	a := &priceAnswer{
		Status: http.StatusOK, Cache: how, Age: int(e.Age.Seconds()), ETag: tag, CacheControl: "max-age=" + strconv.Itoa(lifetime),
	}
	if h.private {
		a.CacheControl = "private, " + a.CacheControl
	}
	if tag != "" && matches(in.held, tag) {
		a.Status = http.StatusNotModified
		return a, nil
	}
	text, err := encode(body)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	a.ContentType, a.Body = "application/json", append(text, '\n')
	return a, nil
}

// encode writes what most answers are, one price, by hand: a fifth of the time of the library's reflection, and none of what
// that costs the first time. A test holds both equal.
func encode(body any) ([]byte, error) {
	b, single := body.(priceBody)
	if !single || strings.ContainsFunc(b.Currency, needsEscape) {
		return json.Marshal(body)
	}
	text := make([]byte, 0, 192)
	member := func(name, value string) { // the values' characters, but for the currency's, are known to need no escape
		if value != "" {
			text = append(append(append(append(append(text, `,"`...), name...), `":"`...), value...), '"')
		}
	}
	member("symbol", b.Symbol)
	text[0] = '{'
	text = append(append(text, `,"price":`...), b.Price...)
	text = append(b.Timestamp.AppendFormat(append(text, `,"timestamp":"`...), time.RFC3339Nano), '"')
	member("provider", b.Provider)
	member("currency", b.Currency)
	if b.Stale {
		text = append(text, `,"stale":true`...)
	}
	member("fallback_from", b.FallbackFrom)
	member("fallback_reason", b.FallbackReason)
	return append(text, '}'), nil
}

func needsEscape(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') }

func bodyOf(f found) priceBody {
	q := f.entry.Quote
	return priceBody{
		Symbol: string(q.Symbol), Price: service.Number(q.Price.String()), Timestamp: q.ObservedAt.UTC(), Provider: q.Provider,
		Currency: q.Currency, Stale: f.how == "STALE", FallbackFrom: f.fallbackFrom, FallbackReason: f.fallbackReason,
	}
}

// etag names a body: the quote, and what else the body says.
func etag(f found) string {
	tag := `"` + f.entry.RawResponseID.String()
	if f.how == "STALE" {
		tag += "-stale"
	}
	if f.fallbackFrom != "" {
		tag += "-" + f.fallbackFrom + "-" + f.fallbackReason
	}
	return tag + `"`
}

// matches reads If-None-Match (RFC 9110 section 13.1.2): a list of entity tags, compared weakly, or * for any.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		if strings.Trim(line, " \t") == "*" {
			return true
		}
		for line = strings.TrimLeft(line, ", \t"); line != ""; line = strings.TrimLeft(line, ", \t") {
			first, quoted := strings.CutPrefix(strings.TrimPrefix(line, "W/"), `"`)
			opaque, rest, closed := strings.Cut(first, `"`)
			if !quoted || !closed {
				break // no list of tags: it says nothing
			}
			if opaque == strings.Trim(tag, `"`) {
				return true
			}
			line = rest
		}
	}
	return false
}

package latest

import (
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/problem"
)

const path = "/prices/latest"

var operation = huma.Operation{
	OperationID: "latest-price", Method: http.MethodGet, Path: path, Tags: []string{api.TagPrices},
	Summary: "The latest price of an instrument, or of several",
	Parameters: []*huma.Param{{
		Name: "If-None-Match", In: "header", Description: "ETags of the answers that the client already has, separated by commas, or *",
		Schema: &huma.Schema{Type: huma.TypeString, Examples: []any{exampleTag}},
	}},
}

// documentedQuery is [query] in the OpenAPI document. A test checks that [API.read] refuses what it refuses.
type documentedQuery struct {
	Symbol   string   `query:"symbol" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & + (the last two escaped, as %26 and %2B); lower case is converted to upper case" example:"AAPL"`
	Symbols  []string `query:"symbols" maxItems:"50" doc:"Instruments of a batch, separated by commas; duplicates are ignored" example:"AAPL,MSFT"`
	Provider string   `query:"provider" doc:"Provider; DEFAULT_PROVIDER if absent; auto: the first of PROVIDER_CHAIN that answers" example:"yfinance"`
}

// documentedAnswer is [answer] in the OpenAPI document.
type documentedAnswer struct {
	Cache        string `header:"X-Cache" doc:"HIT, MISS or STALE; for a batch the worst of its symbols, where a failed symbol counts as MISS" enum:"HIT,MISS,STALE" example:"HIT"`
	Age          int    `header:"Age" doc:"Seconds since the price was fetched; for a batch, since the oldest fetch" example:"12"`
	CacheControl string `header:"Cache-Control" doc:"max-age: seconds from the fetch for which the price is fresh (caches subtract Age); 0 if it is stale or a symbol of a batch failed. private if clients need an API key" example:"max-age=60"`
	ETag         string `header:"ETag" doc:"Identifies this answer; absent if a symbol of a batch failed" example:"\"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11\""`
	Body         []byte
}

const exampleTag = `"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"`

// describe adds what huma cannot derive to the OpenAPI document: the schemas of an answer that is written as bytes.
func describe(doc *huma.OpenAPI) {
	responses := doc.Paths[path].Get.Responses
	one := doc.Components.Schemas.Schema(reflect.TypeFor[priceBody](), true, "Price")
	many := doc.Components.Schemas.Schema(reflect.TypeFor[batchBody](), true, "Prices")
	responses["200"].Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{one, many}}},
	}
	symbol, provider := api.Parameter(doc, path, "symbol"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbol.Pattern, symbol.MaxLength, provider.MaxLength = market.SymbolPattern, &longest, &longest
	for _, name := range append(market.Providers(), auto) {
		provider.Enum = append(provider.Enum, name)
	}
	for _, p := range doc.Paths[path].Get.Parameters {
		if p.Name == "symbol" {
			p.Example = "AAPL" // for "Try it out"
		}
	}
}

// explain says what the route does, with examples.
func explain(routes *api.API) {
	apple := priceBody{Symbol: "AAPL", Price: "150.25", Timestamp: time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC), Provider: "yfinance", Currency: "USD"}
	old, other := apple, apple
	old.Stale = true
	other.Provider, other.FallbackFrom, other.FallbackReason = "finnhub", "yfinance", fault.CodeProviderTimeout
	_, unknown := problem.Example(fault.CodeSymbolNotFound, "")
	routes.Explain(operation.OperationID, api.Doc{
		Description: "Pass either symbol or symbols. A fresh price (CACHE_TTL) is answered from the cache; otherwise one of the waiting requests, over all replicas, " +
			"asks the provider. A price that is answered is stored, and its event is published at least once. " +
			"If the provider fails, a price of at most STALE_TTL is answered with stale; without one the answer is an error, never a made-up price.\n\n" +
			"A batch always answers 200: each symbol is in prices or in errors, and a symbol that fails does not affect the others. " +
			"Every request counts once towards the limit (RATE_LIMIT_LATEST: 5 in any 60 seconds), also a batch, and also one that is answered with 304.",
		Codes: []string{
			fault.CodeInvalidSymbol, fault.CodeUnknownProvider, fault.CodeSymbolNotFound, fault.CodeProviderMalformed, fault.CodeProviderAuth,
			fault.CodeProviderRateLimited, fault.CodeProviderUnavailable, fault.CodeStorageUnavailable, fault.CodeProviderTimeout,
		},
		Returns: "The price, or the prices of a batch",
		Answer: api.Examples{
			"one symbol": apple, "stale: the provider failed": old, "auto: another provider answered": other,
			"batch with a symbol that failed": batchBody{map[string]priceBody{"AAPL": apple}, map[string]*problem.Problem{"AAPPL": unknown}},
		},
	})
	routes.Document(func(doc *huma.OpenAPI) {
		responses := doc.Paths[path].Get.Responses
		responses["304"] = &huma.Response{Description: "The client already has this answer: its ETag is in If-None-Match", Headers: responses["200"].Headers}
	})
}

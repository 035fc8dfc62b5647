package latest

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/api"
	"marketdata/shared/market"
)

const path = "/prices/latest"

var operation = huma.Operation{
	OperationID: "latest-price", Method: http.MethodGet, Path: path, Tags: []string{"prices"},
	Summary:     "The latest price of an instrument, or of several",
	Description: "Pass either symbol or symbols. A batch always answers 200: each symbol is in prices or in errors, and a symbol that fails does not affect the others.",
	Parameters: []*huma.Param{{
		Name: "If-None-Match", In: "header", Description: "ETags of the prices that the client already has",
		Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString}},
	}},
	Errors: []int{400, 404, 429, 500, 502, 503, 504},
}

// documentedQuery is [query] in the OpenAPI document. A test checks that [API.read] refuses what it refuses.
type documentedQuery struct {
	Symbol   string   `query:"symbol" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & + (the last two escaped, as %26 and %2B); lower case is converted to upper case"`
	Symbols  []string `query:"symbols" maxItems:"50" doc:"Instruments of a batch, separated by commas; duplicates are ignored"`
	Provider string   `query:"provider" doc:"Provider; DEFAULT_PROVIDER if absent; auto: the first of PROVIDER_CHAIN that answers"`
}

// documentedAnswer is [answer] in the OpenAPI document.
type documentedAnswer struct {
	Cache        string `header:"X-Cache" doc:"HIT, MISS or STALE; for a batch the worst of its symbols, where a failed symbol counts as MISS"`
	Age          int    `header:"Age" doc:"Seconds since the price was fetched; for a batch, since the oldest fetch"`
	CacheControl string `header:"Cache-Control" doc:"max-age: seconds from the fetch for which the price is fresh (caches subtract Age); 0 if it is stale or a symbol of a batch failed. private if clients need an API key"`
	ETag         string `header:"ETag" doc:"Identifies this answer; absent if a symbol of a batch failed"`
	Body         []byte
}

// describe adds what huma cannot derive to the OpenAPI document: the schemas of an answer that is written as bytes, and the
// codes of each error status.
func describe(doc *huma.OpenAPI) {
	responses := doc.Paths[path].Get.Responses
	one := doc.Components.Schemas.Schema(reflect.TypeFor[priceBody](), true, "Price")
	many := doc.Components.Schemas.Schema(reflect.TypeFor[batchBody](), true, "Prices")
	responses["200"].Content = map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{one, many}}},
	}
	responses["304"] = &huma.Response{}
	symbol, provider := api.Parameter(doc, path, "symbol"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbol.Pattern, symbol.MaxLength, provider.MaxLength = market.SymbolPattern, &longest, &longest
	for _, name := range append(market.Providers(), auto) {
		provider.Enum = append(provider.Enum, name)
	}
	for status, text := range map[int]string{
		200: "The price, or the prices of a batch", 304: "The client already has this answer: its ETag is in If-None-Match",
		400: "invalid_symbol, unknown_provider or invalid_parameter", 404: "symbol_not_found", 429: "rate_limited", 500: "internal",
		502: "provider_malformed or provider_auth", 503: "provider_rate_limited, provider_unavailable or storage_unavailable",
		504: "provider_timeout",
	} {
		responses[strconv.Itoa(status)].Description = text
	}
}

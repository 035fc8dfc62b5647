package stream

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/shared/api"
	"marketdata/shared/market"
)

const path = "/averages/stream"

var operation = huma.Operation{
	OperationID: "stream-averages", Method: http.MethodGet, Path: path, Tags: []string{"averages"},
	Summary: "The newest prices and averages of series, as they change",
	Description: "Server-sent events, as EventSource reads them. First the state of each series, then its newest state at each change: " +
		"at most four a second of one series, and always the last one. A series without a point has no event until its first point. " +
		"The data of an event is a ComputeMaSeries; two events with one id have the same state. " +
		"A comment comes every ten seconds, and when the states cannot be read for a while. " +
		"The response ends after STREAM_DURATION; a client that connects again gets the current state of each series first, so it misses none.",
	Errors: []int{400, 429, 500, 503},
}

// documentedQuery is what [API.read] reads in the OpenAPI document.
type documentedQuery struct {
	Symbols  []string `query:"symbols" required:"true" minItems:"1" maxItems:"100" doc:"Instruments, separated by commas; duplicates are ignored"`
	Provider string   `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent"`
}

const example = `retry: 1000

event: series
id: yfinance:AAPL:4711
data: {"symbol":"AAPL","provider":"yfinance","price":150.25,"as_of":"2024-03-20T10:30:00Z","averages":[{"window":5,"average":149.8,"points_used":5,"complete":true}]}

`

// describe adds what huma cannot derive to the OpenAPI document: the media type, and the schema of an event's data.
func describe(doc *huma.OpenAPI) {
	op := doc.Paths[path].Get
	doc.Components.Schemas.Schema(reflect.TypeFor[averages.Series](), true, "Series")
	op.Responses["200"] = &huma.Response{Description: "The stream", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}, Example: example},
	}}
	delete(op.Responses, "204")
	symbols, provider := api.Parameter(doc, path, "symbols"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbols.Items.Pattern, symbols.Items.MaxLength = market.SymbolPattern, &longest
	provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
}

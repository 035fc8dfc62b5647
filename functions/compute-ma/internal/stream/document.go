package stream

import (
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const path = "/averages/stream"

var operation = huma.Operation{
	OperationID: "stream-averages", Method: http.MethodGet, Path: path, Tags: []string{api.TagStream},
	Summary: "The newest prices and averages of series, as they change",
}

// documentedQuery is what [API.read] reads in the OpenAPI document.
type documentedQuery struct {
	Symbols  []string `query:"symbols" required:"true" minItems:"1" maxItems:"100" doc:"Instruments, separated by commas; duplicates are ignored" example:"AAPL,MSFT"`
	Provider string   `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent; bars have the provider and the interval, as in yfinance-1d" example:"yfinance"`
}

// describe adds what huma cannot derive to the OpenAPI document: the media type, and the schema of an event's data.
func describe(doc *huma.OpenAPI) {
	op := doc.Paths[path].Get
	state := doc.Components.Schemas.Schema(reflect.TypeFor[averages.Series](), true, "Series")
	text := &huma.Schema{Type: huma.TypeString}
	op.Responses["200"] = &huma.Response{
		Headers: map[string]*huma.Param{"Cache-Control": {Schema: text, Description: "no-store: a stream is not cached", Example: "no-store"}},
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: streamSchema(state), Example: exampleEvent()}},
	}
	delete(op.Responses, "204")
	symbols, provider := api.Parameter(doc, path, "symbols"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbols.Items.Pattern, symbols.Items.MaxLength = market.SymbolPattern, &longest
	provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
}

// streamSchema returns the schema of a stream, which is a text to some tools, and to others the schema is that of each event: OpenAPI 3.1
// does not say.
func streamSchema(state *huma.Schema) *huma.Schema {
	event := &huma.Schema{
		Type: huma.TypeObject, Description: "One event", Required: []string{"event", "id", "data"},
		Properties: map[string]*huma.Schema{
			"event": {Type: huma.TypeString, Enum: []any{"series"}},
			"id":    {Type: huma.TypeString, Description: "The same for equal states of a series"},
			"data": {
				Type: huma.TypeString, Description: "The state of a series in JSON",
				Extensions: map[string]any{"contentMediaType": "application/json", "contentSchema": state},
			},
		},
	}
	event.PrecomputeMessages()
	return &huma.Schema{OneOf: []*huma.Schema{event, {Type: huma.TypeString, Description: "The whole of the stream"}}}
}

// explain says what the stream does.
func explain(routes *api.API) {
	routes.Explain(operation.OperationID, api.Doc{
		Description: "Server-sent events, as EventSource reads them. First the state of each series, then its newest state at each change: " +
			"at most four a second of one series, and always the last one. A series without a point has no event until its first point.\n\n" +
			"The data of an event is a ComputeMaSeries in JSON; two events with one id have the same state. " +
			"A comment comes every ten seconds, and when the states cannot be read for a while. " +
			"The response ends after STREAM_DURATION; a client that connects again gets the current state of each series first, so it misses none. " +
			"A client that reads nothing for 30 seconds is disconnected. A replica has at most STREAM_MAX_CLIENTS streams. A stream begins like this:\n\n" +
			"```\n" + preamble + "event: series\nid: " + exampleID + "\ndata: " + exampleData() + "\n```",
		Codes:   []string{fault.CodeInvalidSymbol, fault.CodeInvalidProvider},
		Details: map[string]string{fault.CodeOverloaded: "this replica already streams to 1000 clients"},
		Returns: "The stream",
	})
}

const exampleID = "yfinance:AAPL:4711"

// exampleEvent returns an event by its fields.
func exampleEvent() map[string]string {
	return map[string]string{"event": "series", "id": exampleID, "data": exampleData()}
}

func exampleData() string {
	data, _ := json.Marshal(averages.ExampleSeries()) // it has nothing that JSON cannot hold
	return string(data)
}

package ratelimit

import (
	"maps"

	"github.com/danielgtaylor/huma/v2"
)

// Document adds to the API document what the limiter adds to every operation: its headers and the API key. All operations of an API are
// limited; health, docs, metrics and event routes are not operations. Call it after all operations are registered.
func Document(api *huma.OpenAPI) {
	if api.Components.SecuritySchemes == nil {
		api.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
	}
	api.Components.SecuritySchemes["api_key"] = &huma.SecurityScheme{
		Type: "apiKey", In: "header", Name: keyHeader, Description: "Required if API keys are configured",
	}
	if api.Components.Headers == nil {
		api.Components.Headers = map[string]*huma.Param{}
	}
	maps.Copy(api.Components.Headers, limitHeaders)
	for _, path := range api.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			if op != nil {
				documentOperation(op)
			}
		}
	}
}

func documentOperation(op *huma.Operation) {
	if len(op.Security) == 0 { // otherwise it has an access control of its own
		op.Security = []map[string][]string{{}, {"api_key": {}}}
	}
	for code, response := range op.Responses {
		headers := map[string]*huma.Param{}
		for name, h := range response.Headers {
			headers[name] = h
		}
		for name := range limitHeaders {
			if name != retryAfter || code == "429" || code == "503" {
				headers[name] = &huma.Param{Ref: "#/components/headers/" + name}
			}
		}
		response.Headers = headers
	}
}

const retryAfter = "Retry-After"

var limitHeaders = map[string]*huma.Param{
	retryAfter:              header(huma.TypeInteger, "Seconds until a request can pass", 12),
	"RateLimit-Policy":      header(huma.TypeString, `The limit: "latest";q=5;w=60 admits 5 requests in any 60 seconds`, `"latest";q=5;w=60`),
	"RateLimit":             header(huma.TypeString, `The requests left: "latest";r=4;t=60 has 4, and the next slot is freed in 60 seconds`, `"latest";r=4;t=60`),
	"RateLimit-Mode":        header(huma.TypeString, "degraded: this replica enforces its share of the limit alone. Otherwise absent", "degraded"),
	"X-RateLimit-Limit":     header(huma.TypeInteger, "Requests in a window", 5),
	"X-RateLimit-Remaining": header(huma.TypeInteger, "Requests left", 4),
	"X-RateLimit-Reset":     header(huma.TypeInteger, "Seconds until the next slot is freed", 60),
}

func header(kind, description string, example any) *huma.Param {
	return &huma.Param{Schema: &huma.Schema{Type: kind}, Description: description, Example: example}
}

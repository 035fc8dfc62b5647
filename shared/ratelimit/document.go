package ratelimit

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Document adds to the API document what the limiter adds to every operation: its headers, its responses (401, 429, 503) and the
// API key. All operations of an API are limited; health, docs, metrics and event routes are not operations. Call it after all
// operations are registered.
func Document(api *huma.OpenAPI) {
	if api.Components.SecuritySchemes == nil {
		api.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
	}
	api.Components.SecuritySchemes["api_key"] = &huma.SecurityScheme{
		Type: "apiKey", In: "header", Name: keyHeader, Description: "Required if API keys are configured",
	}
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
	problem := op.Responses[strconv.Itoa(http.StatusInternalServerError)]
	for _, status := range []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		if code := strconv.Itoa(status); op.Responses[code] == nil && problem != nil {
			op.Responses[code] = &huma.Response{Description: http.StatusText(status), Content: problem.Content}
		}
	}
	for code, response := range op.Responses {
		headers := map[string]*huma.Param{}
		for name, h := range response.Headers {
			headers[name] = h
		}
		for name, text := range limitHeaders {
			kind := huma.TypeString
			if strings.HasPrefix(name, "X-") {
				kind = huma.TypeInteger
			}
			headers[name] = &huma.Param{Schema: &huma.Schema{Type: kind}, Description: text}
		}
		if code == "429" || code == "503" {
			headers["Retry-After"] = &huma.Param{Schema: &huma.Schema{Type: huma.TypeInteger}, Description: "Seconds until a request can pass"}
		}
		response.Headers = headers
	}
}

var limitHeaders = map[string]string{
	"RateLimit-Policy":      `The limit: "latest";q=5;w=60 admits 5 requests in any 60 seconds`,
	"RateLimit":             `The requests left: "latest";r=4;t=60 has 4, and the next slot is freed in 60 seconds`,
	"RateLimit-Mode":        "degraded: this replica enforces its share of the limit alone",
	"X-RateLimit-Limit":     "Requests in a window",
	"X-RateLimit-Remaining": "Requests left",
	"X-RateLimit-Reset":     "Seconds until the next slot is freed",
}

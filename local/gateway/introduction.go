package gateway

// introduction is the beginning of the OpenAPI document, in Markdown.
const introduction = `Prices in, exact moving averages out.

**Numbers.** Prices and averages are JSON numbers with exact digits. Read them as decimals: a float may round them.

**Times** are RFC 3339, in UTC. Ranges include their start and not their end.

**Errors** are problem documents (RFC 9457) with a stable code; detail is for people. Unknown parameters and members are errors, too.
request_id, also in the header X-Request-ID, is the request's name in the logs; a request may bring its own.

**Limits.** Each client, which is an API key or else an address, has a limit on each route; the RateLimit headers of every response say what is left of it.
A request above it is 429, with the seconds until one can pass in Retry-After. After a 503, repeat the request after Retry-After.

**Repeats.** GET, pause, resume and delete can be repeated. Creations take an Idempotency-Key: a repeat within 24 hours has the same result.

**Pages.** A list has next_page_token, which is null on the last page; pass it as page_token with the same query. Tokens are opaque.

**Delivery.** A price that was fetched is stored with its event in one transaction, and the event is published at least once. Averages follow it,
usually within a second, and are the same whatever the order of events and however often they are delivered.`

// ownPaths are the gateway's own routes in the document.
var ownPaths = map[string]any{
	"/healthz": map[string]any{"get": ownOperation("show-health", "Whether the gateway runs",
		"Says nothing about the functions behind it; their /readyz does. It needs no key and has no limit.", "The gateway runs", "text/plain", map[string]any{"type": "string"}, "ok\n")},
	"/openapi.json": map[string]any{"get": ownOperation("show-document", "This document",
		"OpenAPI 3.1, merged from the documents of the functions. A function that restarts keeps its routes in it. It needs no key and has no limit.",
		"The document", "application/json", map[string]any{"type": "object"}, map[string]any{"openapi": "3.1.0", "info": map[string]any{"title": "Market data", "version": "1.0.0"}})},
}

func ownOperation(id, summary, description, returns, mediaType string, schema, example any) map[string]any {
	return map[string]any{
		"operationId": id, "tags": []string{"operations"}, "summary": summary, "description": description, "security": []any{},
		"responses": map[string]any{"200": map[string]any{
			"description": returns, "content": map[string]any{mediaType: map[string]any{"schema": schema, "example": example}},
			"headers": map[string]any{"X-Request-ID": map[string]any{
				"description": "Name of the request: that of the request header of the same name, or else a new one", "schema": map[string]any{"type": "string"}, "example": "mine-1",
			}},
		}},
	}
}

package service

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// NewAPI makes the code-first API of a function on mux: parameters and bodies are validated against the very schema
// that /openapi.json shows, unknown parameters and members are refused, and every error is a problem document.
func NewAPI(mux *http.ServeMux, title, description string) huma.API {
	hookErrors()
	config := huma.DefaultConfig(title, "1.0.0")
	config.Info.Description = description
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", "" // served by this package
	config.CreateHooks = nil                                             // no $schema members in bodies
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	return humago.New(mux, config)
}

// hookErrors makes the API library's errors ours. Its hooks are variables of the package: set once, for all APIs.
var hookErrors = sync.OnceFunc(func() {
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return frameworkProblem(requestIDOf(ctx), status, msg, errs)
	}
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return frameworkProblem("", status, msg, errs)
	}
})

// frameworkProblem turns what the API library found wrong into a problem document.
func frameworkProblem(requestID string, status int, msg string, errs []error) *Problem {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest // the request is malformed: 422 has another meaning on the event surface
	}
	p := &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: codeOfStatus(status),
		Detail: msg, RequestID: requestID, cause: errors.Join(errs...),
	}
	var details []string
	for _, err := range errs {
		if d, ok := err.(huma.ErrorDetailer); ok { // the library's own values, never wrapped
			detail := d.ErrorDetail()
			details = append(details, strings.TrimSpace(detail.Location+" "+detail.Message))
		}
	}
	if len(details) > 0 {
		p.Detail = strings.Join(details, "; ")
	}
	if status == http.StatusInternalServerError {
		p.Detail = "" // an unknown error's text may hold anything
	}
	return p
}

func requestIDOf(ctx huma.Context) string {
	if ctx == nil {
		return ""
	}
	return RequestID(ctx.Context())
}

// Handle registers an operation whose handler returns plain errors; they become problem documents by their fault kind.
func Handle[I, O any](api huma.API, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}
	}
	op.Middlewares = append(op.Middlewares[:len(op.Middlewares):len(op.Middlewares)], onceEach) // after the limiter: refusals count, too
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p := NewProblem(err, RequestID(ctx))
			noteError(ctx, err)
			return nil, p
		}
		return out, nil
	})
}

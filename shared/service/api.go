package service

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// api is the code-first API of a function: parameters and bodies are validated against the very schema that /openapi.json
// shows, unknown parameters and members are refused, and every error is a problem document.
//
// The library reflects on every operation, which takes as long as all else that a function does at its start. So
// [Handle] only notes what to do, and it is done at the first request that needs it.
type api struct {
	operations []func(huma.API)
	document   []func(*huma.OpenAPI)
}

// built is the API once its operations are registered.
type built struct {
	doc      *huma.OpenAPI
	handlers handlers
}

// handlers takes the place of the library's router: routes are the mux' business, which has them before the API is built.
type handlers map[string]http.HandlerFunc

// HandleFunc notes the handler of a pattern.
func (h handlers) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	h[pattern] = handler
}

// ServeHTTP is not used: each route calls its own handler.
func (h handlers) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

func (a *api) build(title, description string) built {
	hookErrors()
	config := huma.DefaultConfig(title, "1.0.0")
	config.Info.Description = description
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", "" // served by this package
	config.CreateHooks = nil                                             // no $schema members in bodies
	config.RejectUnknownQueryParameters = true
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	h := handlers{}
	library := humago.New(h, config)
	for _, register := range a.operations {
		register(library)
	}
	for _, finish := range a.document {
		finish(library.OpenAPI())
	}
	return built{library.OpenAPI(), h}
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

// Middleware is put around a route's handler.
type Middleware = func(http.Handler) http.Handler

// Handle mounts an operation whose handler returns plain errors; they become problem documents by their fault kind. The
// first of around is the outermost. Call it before the server runs.
func Handle[I, O any](s *Service, op huma.Operation, handler func(context.Context, *I) (*O, error), around ...Middleware) {
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}
	}
	op.Middlewares = huma.Middlewares{onceEach}
	s.api.operations = append(s.api.operations, func(library huma.API) {
		huma.Register(library, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := handler(ctx, in)
			if err != nil {
				p := NewProblem(err, RequestID(ctx))
				noteError(ctx, err)
				return nil, p
			}
			return out, nil
		})
	})
	pattern := op.Method + " " + op.Path
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.built().handlers[pattern](w, r) })
	for _, wrap := range slices.Backward(around) {
		h = wrap(h)
	}
	s.Mux.Handle(pattern, h)
}

// Document has finish complete the API's document, once all operations are in it. Call it before the server runs.
func (s *Service) Document(finish func(*huma.OpenAPI)) {
	s.api.document = append(s.api.document, finish)
}

// OpenAPI is the finished document.
func (s *Service) OpenAPI() *huma.OpenAPI { return s.built().doc }

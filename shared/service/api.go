package service

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"reflect"
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
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaNamer(title))
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	h := handlers{}
	library := humago.New(h, config)
	for _, register := range a.operations {
		register(library)
	}
	describe(library.OpenAPI())
	for _, finish := range a.document {
		finish(library.OpenAPI())
	}
	return built{library.OpenAPI(), h}
}

// describe says in the document what this package adds to the library's rules. Only the document changes: the library
// validates by schemas of its own, which these are copied from.
func describe(doc *huma.OpenAPI) {
	for _, path := range doc.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			if op == nil {
				continue
			}
			delete(op.Responses, "422") // it is 400
			for _, p := range op.Parameters {
				if p.In == "query" && p.Name != "page_token" {
					p.Schema = notEmpty(p.Schema)
				}
			}
		}
	}
}

// Parameter is the schema that the document shows for a query parameter of GET path; nil if there is none. A function that is
// given to [Service.Document] may complete it with what the library cannot know: requests are not validated by it.
func Parameter(doc *huma.OpenAPI, path, name string) *huma.Schema {
	for _, p := range doc.Paths[path].Get.Parameters {
		if p.In == "query" && p.Name == name {
			return p.Schema
		}
	}
	return nil
}

// notEmpty is s without the empty text, which [checkQuery] refuses.
func notEmpty(s *huma.Schema) *huma.Schema {
	out, one := *s, 1
	switch {
	case s.Type == huma.TypeString && s.MinLength == nil:
		out.MinLength = &one
	case s.Type == huma.TypeArray && s.MinItems == nil:
		out.MinItems = &one
	}
	return &out
}

// hookErrors makes the API library's errors ours. Its hooks are variables of the package: set once, for all APIs.
var hookErrors = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true // the names are those of the document
	huma.DefaultArrayNullable = false
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return frameworkProblem(requestIDOf(ctx), status, msg, errs)
	}
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return frameworkProblem("", status, msg, errs)
	}
})

// schemaNamer names the schemas of a function's own types after the function, as in PollListAnswerBody: documents of several
// functions are merged into one, and each has its list of something.
func schemaNamer(function string) func(reflect.Type, string) string {
	var prefix strings.Builder
	for _, word := range strings.Split(function, "-") {
		prefix.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	shared := reflect.TypeFor[Problem]().PkgPath()
	return func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.PkgPath() == shared {
			return name
		}
		return prefix.String() + name
	}
}

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
			details = append(details, strings.TrimSpace(cut(detail.Location, 200)+" "+ownWords(detail.Message)))
		}
	}
	if len(details) > 0 {
		p.Detail = strings.Join(details, "; ")
	}
	if status == http.StatusInternalServerError {
		p.Detail = "" // an unknown error's text may hold anything
	}
	p.Detail = cut(p.Detail, maxDetail)
	return p
}

// ownWords takes out of the library's messages what Go's packages say; the rest is the document's language.
func ownWords(message string) string {
	switch before, _, found := strings.Cut(message, ": "); {
	case found && strings.HasPrefix(message, "expected string to be "):
		return before // "expected string to be RFC 4122 uuid: invalid UUID length: 3"
	case strings.HasPrefix(message, "invalid value: "), strings.HasPrefix(message, "json: "):
		return "invalid value"
	case strings.HasPrefix(message, "invalid date/time"):
		return "expected an RFC 3339 date-time"
	}
	return message
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
	// The body is read and bounded by wellFormed; what the library reads again is in memory.
	limit := cmp.Or(op.MaxBodyBytes, defaultMaxBody)
	op.MaxBodyBytes, op.BodyReadTimeout = -1, -1
	hasBody := op.Method != http.MethodGet && op.Method != http.MethodHead
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		err := wellFormed(ctx.Operation(), r)
		if err == nil && hasBody {
			err = checkChange(ctx.Operation(), s.built().doc.Components.Schemas, w, r, limit)
		}
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		next(ctx)
	}}
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
	s.mount(op, h)
}

// Mount mounts a handler that reads its requests and writes its answers itself; I and O are in the document as with [Handle].
// That both say the same is for the function's tests to show. Call it before the server runs.
func Mount[I, O any](s *Service, op huma.Operation, h http.Handler) {
	s.api.operations = append(s.api.operations, func(library huma.API) {
		huma.Register(library, op, func(context.Context, *I) (*O, error) { return nil, errors.ErrUnsupported }) // no route leads there
	})
	s.mount(op, h)
}

func (s *Service) mount(op huma.Operation, h http.Handler) {
	if origins := s.config.CORSOrigins; op.Method == http.MethodGet && origins.some() {
		h = origins.read(h)
		s.Mux.HandleFunc("OPTIONS "+op.Path, origins.preflight)
	}
	s.Mux.Handle(op.Method+" "+op.Path, h)
}

// Document has finish complete the API's document, once all operations are in it. Call it before the server runs.
func (s *Service) Document(finish func(*huma.OpenAPI)) {
	s.api.document = append(s.api.document, finish)
}

// OpenAPI is the finished document.
func (s *Service) OpenAPI() *huma.OpenAPI { return s.built().doc }

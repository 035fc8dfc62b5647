// Package api is the code-first API of a function: huma validates parameters and bodies against the very schema that /openapi.json
// shows, unknown parameters and members are refused, and every error is a problem document. Pages, tokens and exact numbers are here,
// too.
//
// huma reflects on every operation, which takes as long as everything else that a function does when it starts. So [Handle] only
// records the operation; it is registered at the first request that needs it.
package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"marketdata/shared/crowd"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/service"
)

// API is the API of one function. Add operations before its server runs; after that it is safe for concurrent use.
type API struct {
	mux        *http.ServeMux
	origins    service.Origins
	operations []func(huma.API)
	document   []func(*huma.OpenAPI)
	built      func() built // registers the operations, once
}

// New mounts /openapi.json and /docs/ on the function's server. The document has the function's name and description.
func New(s *service.Service, name, description string) *API {
	a := &API{mux: s.Mux, origins: s.Origins()}
	a.built = sync.OnceValue(func() built { return a.build(name, description) })
	a.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.OpenAPI()) // an error means that the client went away
	})
	Docs(a.mux)
	return a
}

// built is the API after its operations were registered.
type built struct {
	doc      *huma.OpenAPI
	handlers handlers
}

// handlers replaces huma's router: the mux has the routes before the API is built.
type handlers map[string]http.HandlerFunc

// HandleFunc records the handler of a pattern.
func (h handlers) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	h[pattern] = handler
}

// ServeHTTP is not used: each route calls its own handler.
func (h handlers) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

func (a *API) build(title, description string) built {
	hookErrors()
	config := huma.DefaultConfig(title, "1.0.0")
	config.Info.Description = description
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", "" // this package serves them
	config.CreateHooks = nil                                             // no $schema members in bodies
	config.RejectUnknownQueryParameters = true
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaNamer(title))
	config.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	h := handlers{}
	library := humago.New(h, config)
	for _, register := range a.operations {
		register(library)
	}
	doc := library.OpenAPI()
	doc.Components.Schemas = copyOf(doc.Components.Schemas)
	doc.Components.Headers = map[string]*huma.Param{requestIDName: requestIDHeader}
	describe(doc)
	for _, finish := range a.document {
		finish(doc)
	}
	doc.Tags, doc.Servers = tagsOf(doc), []*huma.Server{{URL: "/", Description: "Where this document comes from"}}
	return built{doc, h}
}

// describe adds to the document what this package adds to huma's rules. Only the document changes: huma validates with schemas of its own,
// of which these are copies.
func describe(doc *huma.OpenAPI) {
	for _, path := range doc.Paths {
		for _, op := range operationsOf(path) {
			delete(op.Responses, "422") // it is 400
			for _, r := range op.Responses {
				for _, h := range r.Headers { // huma gives these to the schema alone
					if h.Description = h.Schema.Description; len(h.Schema.Examples) > 0 {
						h.Example = h.Schema.Examples[0]
					}
				}
			}
			for _, p := range op.Parameters {
				if p.In == "query" && p.Name != "page_token" {
					p.Schema = notEmpty(p.Schema)
				}
				if !p.Required { // Swagger UI would fill it in; the schema has it, too
					p.Example = nil
				}
			}
		}
	}
}

// Parameter returns the schema that the document shows for a query parameter of GET path; nil if there is none. A function given to
// [API.Document] may complete it with what huma cannot know; requests are not validated by it.
func Parameter(doc *huma.OpenAPI, path, name string) *huma.Schema {
	for _, p := range doc.Paths[path].Get.Parameters {
		if p.In == "query" && p.Name == name {
			return p.Schema
		}
	}
	return nil
}

// notEmpty returns s without the empty text, which [checkQuery] refuses.
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

// hookErrors makes huma's errors ours. Its hooks are package variables: they are set once, for all APIs.
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

// schemaNamer names the schemas of a function's own types after the function, as in PollListAnswerBody: the documents of several functions
// are merged into one, in which names must not collide.
func schemaNamer(function string) func(reflect.Type, string) string {
	var prefix strings.Builder
	for _, word := range strings.Split(function, "-") {
		prefix.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	shared := reflect.TypeFor[problem.Problem]().PkgPath()
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

// frameworkProblem returns the problem document of an error that huma found.
func frameworkProblem(requestID string, status int, msg string, errs []error) *problem.Problem {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest // the request is malformed: 422 has another meaning on the event surface
	}
	var details []string
	for _, err := range errs {
		if d, ok := err.(huma.ErrorDetailer); ok { // huma's own values, never wrapped
			detail := d.ErrorDetail()
			details = append(details, strings.TrimSpace(request.Cut(detail.Location, 200)+" "+ownWords(detail.Message)))
		}
	}
	if len(details) > 0 {
		msg = strings.Join(details, "; ")
	}
	if status == http.StatusInternalServerError {
		msg = "" // the text of an unknown error may hold anything
	}
	return problem.OfStatus(status, msg, requestID, errors.Join(errs...))
}

// ownWords removes the texts of Go's packages from huma's messages.
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
	return request.ID(ctx.Context())
}

// Handle mounts an operation whose handler returns plain errors; they become problem documents by their fault kind. The first
// middleware is the outermost. A few requests of the operation are worked on at a time; see package crowd.
func Handle[I, O any](a *API, op huma.Operation, handler func(context.Context, *I) (*O, error), around ...service.Middleware) {
	turns := crowd.New(together, patience)
	if op.Method == http.MethodGet {
		a.mount(op, inTurn(turns, wrap(register(a, op, handler), around)))
		return
	}
	a.mount(op, wrap(register(a, op, func(ctx context.Context, in *I) (*O, error) { // the body is here: a client that sends slowly has no turn
		if err := turns.Enter(ctx); err != nil {
			return nil, err
		}
		defer turns.Leave()
		return handler(ctx, in)
	}), around))
}

func wrap(h http.Handler, around []service.Middleware) http.Handler {
	for _, w := range slices.Backward(around) {
		h = w(h)
	}
	return h
}

// problemsFirst makes huma add the schema of problems; [API.Explain] adds the other statuses.
var problemsFirst = []int{http.StatusInternalServerError}

// register returns the handler of an operation, which must be mounted.
func register[I, O any](a *API, op huma.Operation, handler func(context.Context, *I) (*O, error)) http.Handler {
	op.Errors = problemsFirst
	// checkChange reads and bounds the body; huma reads it again, from memory.
	limit := cmp.Or(op.MaxBodyBytes, defaultMaxBody)
	op.MaxBodyBytes, op.BodyReadTimeout = -1, -1
	hasBody := op.Method != http.MethodGet && op.Method != http.MethodHead
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		err := wellFormed(ctx.Operation(), r)
		if err == nil && hasBody {
			err = checkChange(ctx.Operation(), a.built().doc.Components.Schemas, w, r, limit)
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		next(ctx)
	}}
	a.operations = append(a.operations, func(library huma.API) {
		huma.Register(library, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := handler(ctx, in)
			if err != nil {
				request.NoteError(ctx, err)
				return nil, problem.New(err, request.ID(ctx))
			}
			return out, nil
		})
	})
	pattern := op.Method + " " + op.Path
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.built().handlers[pattern](w, r) })
}

// Mount mounts a handler that reads its requests, writes its answers, and bounds its work itself. The document has I and O, as with [Handle]; the function's
// tests must show that the handler does what the document says.
func Mount[I, O any](a *API, op huma.Operation, h http.Handler) {
	op.Errors = problemsFirst
	a.operations = append(a.operations, func(library huma.API) {
		huma.Register(library, op, func(context.Context, *I) (*O, error) { return nil, errors.ErrUnsupported }) // no route leads there
	})
	a.mount(op, h)
}

func (a *API) mount(op huma.Operation, h http.Handler) {
	if op.Method == http.MethodGet && a.origins.Any() {
		h = a.origins.Read(h)
		a.mux.HandleFunc("OPTIONS "+op.Path, a.origins.Preflight)
	}
	a.mux.Handle(op.Method+" "+op.Path, h)
}

// Document has finish complete the document after all operations are in it.
func (a *API) Document(finish func(*huma.OpenAPI)) { a.document = append(a.document, finish) }

// OpenAPI returns the complete document.
func (a *API) OpenAPI() *huma.OpenAPI { return a.built().doc }

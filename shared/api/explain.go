package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
)

// Doc is what the document says of an operation beyond its types. Package apidoc finds operations that lack it.
type Doc struct {
	Description string
	Codes       []string          // of its problems, beyond those that all operations of its kind have
	Details     map[string]string // of the examples of problems, by code, where problem.Codes has another
	Request     Examples          // of the body
	Returns     string            // what a response without a problem is
	Answer      Examples          // of it, as JSON
	CSV         string            // an example of it as CSV, if it has one
	Links       map[string]*huma.Link
}

// Examples are the values of examples by their names. JSON must be able to hold them.
type Examples map[string]any

// Links returns links to operations, whose parameter is the value of an expression over the answer, such as $response.body#/job_id.
func Links(parameter, expression string, operations ...string) map[string]*huma.Link {
	links := map[string]*huma.Link{}
	for _, id := range operations {
		links[id] = &huma.Link{OperationID: id, Parameters: map[string]any{parameter: expression}}
	}
	return links
}

// Explain completes the document of an operation, which must exist.
func (a *API) Explain(id string, d Doc) {
	a.Document(func(doc *huma.OpenAPI) {
		op := operationOf(doc, id)
		op.Description = strings.TrimSpace(d.Description + "\n\n" + op.Description)
		d.problems(op)
		if op.RequestBody != nil {
			op.RequestBody.Description = "JSON. Unknown members are refused, and so is null where the schema does not allow it."
			d.Request.put(op.RequestBody.Content[jsonType])
		}
		for status, r := range op.Responses {
			if status < "300" {
				r.Description, r.Links = d.Returns, d.Links
				d.Answer.put(r.Content[jsonType])
				if csv := r.Content[csvType]; csv != nil {
					csv.Example = d.CSV
				}
			}
			headers := map[string]*huma.Param{requestIDName: {Ref: "#/components/headers/" + requestIDName}}
			maps.Copy(headers, r.Headers)
			r.Headers = headers
		}
	})
}

const requestIDName = "X-Request-ID"

var requestIDHeader = &huma.Param{
	Schema: &huma.Schema{Type: huma.TypeString}, Example: problem.ExampleRequestID,
	Description: "Name of the request in the logs: that of the request header of the same name, or else a new one",
}

func operationOf(doc *huma.OpenAPI, id string) *huma.Operation {
	for _, path := range doc.Paths {
		for _, op := range operationsOf(path) {
			if op.OperationID == id {
				return op
			}
		}
	}
	panic(fmt.Errorf("there is no operation %q", id)) // a bug, which every test of the document finds
}

func operationsOf(path *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

func (e Examples) put(in *huma.MediaType) {
	if in == nil || len(e) == 0 {
		return
	}
	in.Examples = map[string]*huma.Example{}
	for name, value := range e {
		in.Examples[name] = &huma.Example{Summary: name, Value: value}
	}
}

// commonCodes returns the codes that all operations of a kind have.
func commonCodes(op *huma.Operation) []string {
	codes := []string{
		fault.CodeInvalidParameter, fault.CodeUnauthorized, fault.CodeRateLimited, fault.CodeInternal, fault.CodeLimiterUnavailable,
		fault.CodeFunctionUnavailable, fault.CodeOverloaded,
	}
	if op.Method != http.MethodGet {
		codes = append(codes, fault.CodeForeignOrigin, fault.CodeIncompleteRequest, fault.CodeBodyTooLarge)
	}
	if op.RequestBody != nil {
		codes = append(codes, fault.CodeUnsupportedMediaType)
	}
	if ok := op.Responses["200"]; ok != nil && ok.Content[csvType] != nil {
		codes = append(codes, fault.CodeNotAcceptable)
	}
	return codes
}

// problems writes the responses of all problems, with an example of each.
func (d Doc) problems(op *huma.Operation) {
	content := op.Responses[strconv.Itoa(http.StatusInternalServerError)].Content
	for _, code := range append(commonCodes(op), d.Codes...) {
		c, example := problem.Example(code, d.Details[code])
		status := strconv.Itoa(c.Status)
		r := op.Responses[status]
		if r == nil || r.Description == http.StatusText(c.Status) { // huma's
			r = &huma.Response{Content: map[string]*huma.MediaType{}}
			for name, m := range content {
				r.Content[name] = &huma.MediaType{Schema: m.Schema, Examples: map[string]*huma.Example{}}
			}
			op.Responses[status] = r
		}
		r.Description = strings.TrimPrefix(r.Description+"\n", "\n") + "- `" + code + "`: " + c.Meaning
		for _, m := range r.Content {
			m.Examples[code] = &huma.Example{Summary: code, Value: example}
		}
	}
	challenge := `ApiKey realm="marketdata", header="X-API-Key"`
	if len(op.Security) > 0 { // it has an access control of its own
		challenge = `Bearer realm="dlq"`
	}
	op.Responses[strconv.Itoa(http.StatusUnauthorized)].Headers = map[string]*huma.Param{
		"WWW-Authenticate": {Schema: &huma.Schema{Type: huma.TypeString}, Description: "How to authenticate", Example: challenge},
	}
}

// Package apidoc checks that the OpenAPI document of a function is complete and true: everything is described and has an example, and each
// example is valid by its schema.
package apidoc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
)

// Check fails the test with all that the document lacks.
func Check(t *testing.T, doc *huma.OpenAPI) {
	t.Helper()
	c := checker{doc: doc}
	for path, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				c.operation(op.Method+" "+path, op)
			}
		}
	}
	require.NotEmpty(t, doc.Paths)
	require.Empty(t, c.complaints, strings.Join(c.complaints, "\n"))
}

type checker struct {
	doc        *huma.OpenAPI
	complaints []string
}

func (c *checker) complain(where, what string) { c.complaints = append(c.complaints, where+": "+what) }

// lacks complains about empty text.
func (c *checker) lacks(where, what, text string) {
	if text == "" {
		c.complain(where, "no "+what)
	}
}

func (c *checker) operation(where string, op *huma.Operation) {
	c.lacks(where, "operation id", op.OperationID)
	c.lacks(where, "summary", op.Summary)
	c.lacks(where, "description", op.Description)
	known := map[string]bool{}
	for _, tag := range c.doc.Tags {
		known[tag.Name] = tag.Description != ""
	}
	if len(op.Tags) != 1 || !known[op.Tags[0]] {
		c.complain(where, "not one tag that is explained")
	}
	for _, p := range op.Parameters {
		c.parameter(where+" parameter "+p.Name, p)
	}
	if op.RequestBody != nil {
		c.lacks(where+" body", "description", op.RequestBody.Description)
		for name, m := range op.RequestBody.Content {
			c.media(where+" body "+name, m, huma.ModeWriteToServer)
		}
	}
	for status, r := range op.Responses {
		at := where + " " + status
		c.lacks(at, "description", r.Description)
		for name, h := range r.Headers {
			if shared, ok := strings.CutPrefix(h.Ref, "#/components/headers/"); ok {
				h = c.doc.Components.Headers[shared]
			}
			c.lacks(at+" header "+name, "description", h.Description)
			if h.Example == nil {
				c.complain(at+" header "+name, "no example")
				continue
			}
			c.valid(at+" header "+name, h.Schema, h.Example, huma.ModeReadFromServer)
		}
		for name, m := range r.Content {
			c.media(at+" "+name, m, huma.ModeReadFromServer)
		}
		for name, l := range r.Links {
			if !c.exists(l.OperationID) {
				c.complain(at+" link "+name, "to no operation")
			}
		}
	}
}

func (c *checker) parameter(where string, p *huma.Param) {
	c.lacks(where, "description", p.Description)
	if p.Example == nil && len(p.Schema.Examples) == 0 && p.Schema.Default == nil && len(p.Schema.Enum) == 0 && p.Schema.Type != huma.TypeBoolean {
		c.complain(where, "no example")
	}
	for _, example := range p.Schema.Examples {
		c.valid(where, p.Schema, example, huma.ModeWriteToServer)
	}
	if p.Example != nil {
		c.valid(where, p.Schema, p.Example, huma.ModeWriteToServer)
	}
}

func (c *checker) media(where string, m *huma.MediaType, mode huma.ValidateMode) {
	if m.Example == nil && len(m.Examples) == 0 {
		c.complain(where, "no example")
	}
	if m.Example != nil {
		c.valid(where, m.Schema, m.Example, mode)
	}
	for name, e := range m.Examples {
		c.valid(where+" example "+name, m.Schema, e.Value, mode)
	}
}

// valid validates an example as JSON has it.
func (c *checker) valid(where string, s *huma.Schema, example any, mode huma.ValidateMode) {
	text, err := json.Marshal(example)
	var value any
	if err == nil {
		err = json.Unmarshal(text, &value)
	}
	if err != nil {
		c.complain(where, err.Error())
		return
	}
	var result huma.ValidateResult
	huma.Validate(c.doc.Components.Schemas, s, huma.NewPathBuffer(nil, 0), mode, value, &result)
	for _, err := range result.Errors {
		c.complain(where, err.Error())
	}
}

func (c *checker) exists(id string) bool {
	for _, item := range c.doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil && op.OperationID == id {
				return true
			}
		}
	}
	return false
}

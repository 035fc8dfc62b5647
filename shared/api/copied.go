package api

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// copied is the document's registry. Its schemas are copies of those that bodies are validated by, so that the document can say what huma
// must not check, because an error of its own would lack the code of ours.
type copied struct {
	huma.Registry

	schemas map[string]*huma.Schema
}

func copyOf(r huma.Registry) *copied {
	c := &copied{r, map[string]*huma.Schema{}}
	c.update()
	return c
}

func (c *copied) update() {
	for name, s := range c.Registry.Map() {
		if c.schemas[name] == nil {
			c.schemas[name] = copySchema(s)
		}
	}
}

// Schema adds the schema of a type.
func (c *copied) Schema(t reflect.Type, allowRef bool, hint string) *huma.Schema {
	s := c.Registry.Schema(t, allowRef, hint)
	c.update()
	return s
}

// SchemaFromRef returns the document's schema.
func (c *copied) SchemaFromRef(ref string) *huma.Schema {
	return c.schemas[ref[len("#/components/schemas/"):]]
}

// Map returns the document's schemas by name.
func (c *copied) Map() map[string]*huma.Schema { return c.schemas }

// MarshalJSON writes the document's schemas.
func (c *copied) MarshalJSON() ([]byte, error) { return json.Marshal(c.schemas) }

func copySchema(s *huma.Schema) *huma.Schema {
	if s == nil {
		return nil
	}
	out := *s
	out.Items = copySchema(s.Items)
	if s.Properties != nil {
		out.Properties = map[string]*huma.Schema{}
		for name, p := range s.Properties {
			out.Properties[name] = copySchema(p)
		}
	}
	return &out
}

// Body returns the document's schema of a member of an operation's request body. A function given to [API.Document] may complete it;
// requests are not validated by it.
func Body(doc *huma.OpenAPI, operation, member string) *huma.Schema {
	ref := operationOf(doc, operation).RequestBody.Content[jsonType].Schema.Ref
	return doc.Components.Schemas.SchemaFromRef(ref).Properties[member]
}

// Bounds describes the parameters start and end of GET path, which package timerange reads.
func Bounds(doc *huma.OpenAPI, path string) {
	for _, name := range []string{"start", "end"} {
		Parameter(doc, path, name).Pattern = BoundPattern
	}
}

// BoundPattern has the forms of a bound that package timerange reads. Not all of its days and times exist.
const BoundPattern = `^(0|[0-9]{11,15}|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?)$`

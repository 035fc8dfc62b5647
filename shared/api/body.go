package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"marketdata/shared/fault"
	"marketdata/shared/request"
)

// defaultMaxBody bounds the body of an operation that sets no MaxBodyBytes.
const defaultMaxBody = 1 << 20

// checkChange refuses a request that changes something if a browser sends it for a page of another site, or if its body does not match
// the document. It reads the body, at most limit bytes, and puts it back.
func checkChange(op *huma.Operation, schemas huma.Registry, w http.ResponseWriter, r *http.Request, limit int64) error {
	if err := request.CheckOrigin(r); err != nil {
		return err
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	if op.RequestBody != nil && len(body) > 0 {
		if body, err = checkBody(op.RequestBody, schemas, r.Header, body); err != nil {
			return err
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, fault.New(fault.Invalid, fault.CodeBodyTooLarge, "the body is larger than %d bytes", limit)
	case fault.KindOf(err) == fault.Unavailable: // it was cut off for others, see service.Bounded
		return nil, err
	case err != nil: // it ended early, or was too slow
		return nil, fault.Wrap(err, fault.Invalid, fault.CodeIncompleteRequest, "the request body is incomplete")
	}
	return body, nil
}

// checkBody returns the body in the form that huma needs, or an error that says where it does not match the schema. huma is lenient about
// null and strict about the spelling of whole numbers; JSON Schema is neither.
func checkBody(want *huma.RequestBody, schemas huma.Registry, header http.Header, body []byte) ([]byte, error) {
	if e := header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, fault.New(fault.Invalid, fault.CodeUnsupportedMediaType, "the body must not be compressed")
	}
	media := "application/json"
	if given := header.Get("Content-Type"); given != "" {
		media, _, _ = mime.ParseMediaType(given) // an invalid media type is an unknown one
	}
	if media != "application/json" {
		return nil, fault.New(fault.Invalid, fault.CodeUnsupportedMediaType, "the body must be application/json")
	}
	if !utf8.Valid(body) {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "the body is not UTF-8")
	}
	value, err := decodeBody(body)
	if err != nil {
		return nil, err
	}
	c := bodyCheck{schemas: schemas}
	if declared := want.Content["application/json"]; declared != nil {
		value = c.walk(declared.Schema, "body", value)
	}
	if c.err != nil || !c.changed {
		return body, c.err
	}
	if body, err = json.Marshal(value); err != nil {
		return nil, fmt.Errorf("write body: %w", err)
	}
	return body, nil
}

func decodeBody(body []byte) (any, error) {
	// Of two members of one name, the walk would see only the last, but huma decodes an object into the one before. A lone surrogate, which
	// encoding/json replaces, must not end the search for them.
	if err := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowInvalidUTF8(true)).SkipValue(); errors.Is(err, jsontext.ErrDuplicateName) {
		return nil, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter, "the body has a name twice in one object")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value any
	err := d.Decode(&value)
	if err == nil && len(bytes.TrimLeft(body[d.InputOffset():], " \t\r\n")) > 0 {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "the body has something after its JSON value, at byte %d", d.InputOffset())
	}
	if err != nil {
		at := d.InputOffset()
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = syntax.Offset
		}
		return nil, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter, "the body is not JSON: see byte %d", at)
	}
	return value, nil
}

// bodyCheck walks a decoded body along its schema.
type bodyCheck struct {
	schemas huma.Registry
	changed bool
	err     error // the first fault
}

// walk checks what huma does not, and returns the value with whole numbers in plain digits.
func (c *bodyCheck) walk(s *huma.Schema, path string, value any) any {
	for s != nil && s.Ref != "" {
		s = c.schemas.SchemaFromRef(s.Ref)
	}
	if s == nil || c.err != nil {
		return value
	}
	switch v := value.(type) {
	case nil:
		if !s.Nullable && s.Type != "" {
			c.err = fault.New(fault.Invalid, fault.CodeInvalidParameter, "%s must not be null: leave it out", request.Cut(path, 200))
		}
	case map[string]any:
		for name, member := range v {
			if known := s.Properties[name]; known != nil {
				v[name] = c.walk(known, path+"."+name, member)
			}
		}
	case []any:
		for i, item := range v {
			v[i] = c.walk(s.Items, path+"["+strconv.Itoa(i)+"]", item)
		}
	case string:
		if !isText(v) { // the database would refuse it
			c.err = fault.New(fault.Invalid, fault.CodeInvalidParameter, "%s holds a NUL", request.Cut(path, 200))
		}
	case json.Number:
		if plain, ok := whole(v.String()); s.Type == huma.TypeInteger && ok {
			c.changed = true
			return json.Number(plain)
		}
	}
	return value
}

// whole returns the digits of a whole number that is written with a fraction or an exponent, such as 302.0 or 3e2.
func whole(text string) (string, bool) {
	if !strings.ContainsAny(text, ".eE") || len(text) > 40 {
		return "", false
	}
	if digits, exponent, found := strings.Cut(strings.ToLower(text), "e"); found {
		if strings.Trim(digits, "-0.") == "" {
			return "0", true
		}
		if n, err := strconv.Atoi(exponent); err != nil || n > 20 || n < -40 { // longer than any of our integers
			return "", false
		}
	}
	n, ok := new(big.Rat).SetString(text)
	if !ok || !n.IsInt() {
		return "", false
	}
	return n.Num().String(), true
}

package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/fault"
)

// wellFormed refuses what huma silently accepts: a query that does not parse (huma drops what it cannot read), a parameter that is given
// twice (it takes the first) or without a value (it counts as absent, or as "true" without the =), a repeated header that is not a
// list, and NUL or bytes that are not UTF-8, which the database would refuse.
func wellFormed(op *huma.Operation, r *http.Request) error {
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return err
	}
	if strings.IndexByte(op.Path, '{') >= 0 && !isText(r.URL.Path) {
		return fault.New(fault.Invalid, fault.CodeInvalidParameter, "the path is not UTF-8 text")
	}
	for _, p := range op.Parameters {
		if p.In != "header" {
			continue
		}
		values := r.Header.Values(p.Name)
		if p.Schema.Type != huma.TypeArray && len(values) > 1 {
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "header %s is given more than once", p.Name)
		}
		if err := checkHeader(p.Name, values); err != nil {
			return err
		}
	}
	return nil
}

// isText reports UTF-8 without NUL.
func isText(s string) bool { return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s) }

func checkQuery(query string) error {
	return ReadQuery(query, func(string, string) error { return nil })
}

// ReadQuery calls take with each parameter of a query, decoded and in order, up to the first error. Its own errors are Invalid
// "invalid_parameter": a query that does not parse, or a parameter that is given twice, has no value, or is not UTF-8 text.
func ReadQuery(query string, take func(name, value string) error) error {
	var room [8]string // enough for every route, so that nothing is allocated
	seen := room[:0]
	for query != "" {
		var pair string
		if pair, query, _ = strings.Cut(query, "&"); pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		switch {
		case err != nil || err2 != nil || strings.Contains(pair, ";"): // semicolons once separated pairs: ambiguous
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "the query is not well-formed")
		case !isText(name) || !isText(value):
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "query parameter %.64q is not UTF-8 text", name)
		case value == "" && name != "page_token": // clients that page in a loop begin with an empty one
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "query parameter %.64q has no value", name)
		case slices.Contains(seen, name):
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "query parameter %.64q is given more than once", name)
		}
		if err := take(name, value); err != nil {
			return err
		}
		seen = append(seen, name)
	}
	return nil
}

// ReadList returns the lines of a header that is a list. A line that is not UTF-8 text is Invalid "invalid_parameter".
func ReadList(h http.Header, name string) ([]string, error) {
	lines := h.Values(name)
	return lines, checkHeader(name, lines)
}

func checkHeader(name string, values []string) error {
	if slices.ContainsFunc(values, func(v string) bool { return !isText(v) }) {
		return fault.New(fault.Invalid, fault.CodeInvalidParameter, "header %s is not UTF-8 text", name)
	}
	return nil
}

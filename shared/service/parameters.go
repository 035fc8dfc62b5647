package service

import (
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"marketdata/shared/fault"
)

// onceEach refuses what the API library lets pass in silence: a query that does not parse (it drops what it cannot read),
// a parameter that is given twice (it takes the first), one without a value (it takes it for absent, and for "true"
// where even the = is missing), and a header twice that is not a list.
func onceEach(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	err := checkQuery(r.URL.RawQuery)
	for _, p := range ctx.Operation().Parameters {
		if p.In == "header" && p.Schema.Type != huma.TypeArray && len(r.Header.Values(p.Name)) > 1 {
			err = fault.New(fault.Invalid, "invalid_parameter", "header %s is given more than once", p.Name)
		}
	}
	if err != nil {
		noteError(r.Context(), err)
		WriteProblem(w, r, err)
		return
	}
	next(ctx)
}

func checkQuery(query string) error {
	var room [8]string // enough for every route, so that nothing is allocated
	seen := room[:0]
	for query != "" {
		var pair string
		if pair, query, _ = strings.Cut(query, "&"); pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		_, err2 := url.QueryUnescape(value)
		switch {
		case err != nil || err2 != nil || strings.Contains(pair, ";"): // a semicolon once separated pairs: nobody can tell
			return fault.New(fault.Invalid, "invalid_parameter", "the query is not well-formed")
		case value == "" && name != "page_token": // who pages in a loop has an empty one at first
			return fault.New(fault.Invalid, "invalid_parameter", "query parameter %.64q has no value", name)
		case slices.Contains(seen, name):
			return fault.New(fault.Invalid, "invalid_parameter", "query parameter %.64q is given more than once", name)
		}
		seen = append(seen, name)
	}
	return nil
}

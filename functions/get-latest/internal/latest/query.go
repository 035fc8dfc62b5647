package latest

import (
	"net/http"
	"strings"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// auto is the provider name that stands for the first provider of the chain that answers.
const auto = "auto"

// maxSymbols is the largest number of symbols in a batch.
const maxSymbols = 50

// query is a parsed GET /prices/latest.
type query struct {
	provider string          // a known provider, or auto
	symbols  []market.Symbol // one, or those of a batch without duplicates
	batch    bool
	refused  map[string]error // invalid symbols of a batch, as the request spelled them
	held     []string         // the lines of If-None-Match
}

// read parses a request. Errors are Invalid: invalid_parameter, unknown_provider, and for a single symbol invalid_symbol; the
// query is then zero.
func (a *API) read(r *http.Request) (query, error) {
	q := query{provider: a.DefaultProvider}
	var symbol, symbols string
	err := api.ReadQuery(r.URL.RawQuery, func(name, value string) error {
		switch name {
		case "symbol":
			symbol = value
		case "symbols":
			symbols = value
		case "provider":
			q.provider = value
		default:
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "unknown query parameter %.64q", name)
		}
		return nil
	})
	if err != nil {
		return query{}, err
	}
	if q.held, err = api.ReadList(r.Header, "If-None-Match"); err != nil {
		return query{}, err
	}
	switch {
	case q.provider != auto && !a.Known(q.provider):
		return query{}, fault.New(fault.Invalid, fault.CodeUnknownProvider, "unknown provider")
	case (symbol == "") == (symbols == ""):
		return query{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "pass either symbol or symbols")
	case symbol != "":
		one, err := market.ParseSymbol(symbol)
		if err != nil {
			return query{}, err
		}
		q.symbols = []market.Symbol{one}
		return q, nil
	}
	return q.ofBatch(symbols)
}

// ofBatch adds the symbols of a comma-separated list.
func (q query) ofBatch(list string) (query, error) {
	if strings.Count(list, ",") >= maxSymbols {
		return query{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "symbols has more than %d entries", maxSymbols)
	}
	q.batch, q.refused = true, map[string]error{}
	seen := map[market.Symbol]bool{}
	for text := range strings.SplitSeq(list, ",") {
		symbol, err := market.ParseSymbol(text)
		if err != nil {
			q.refused[text] = err
		} else if !seen[symbol] {
			seen[symbol] = true
			q.symbols = append(q.symbols, symbol)
		}
	}
	return q, nil
}

package main

import (
	"net/http"
	"strings"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// maxSymbols bounds a batch.
const maxSymbols = 50

// latestRequest is GET /prices/latest as it was asked.
type latestRequest struct {
	provider string          // one that is known, or auto
	symbols  []market.Symbol // one, or those of a batch, each once
	batch    bool
	refused  map[string]error // of a batch, what is no symbol: by the text as it was given
	held     []string         // If-None-Match, line by line
}

// read reads a request. Errors are Invalid: invalid_parameter, unknown_provider, and of a single symbol invalid_symbol; the request
// is then zero.
func (h *handler) read(r *http.Request) (latestRequest, error) {
	q := latestRequest{provider: h.defaultProvider}
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
			return fault.New(fault.Invalid, "invalid_parameter", "there is no query parameter %.64q", name)
		}
		return nil
	})
	if err != nil {
		return latestRequest{}, err
	}
	if q.held, err = api.ReadList(r.Header, "If-None-Match"); err != nil {
		return latestRequest{}, err
	}
	switch {
	case q.provider != auto && !h.known(q.provider):
		return latestRequest{}, fault.New(fault.Invalid, "unknown_provider", "there is no provider of that name")
	case (symbol == "") == (symbols == ""):
		return latestRequest{}, fault.New(fault.Invalid, "invalid_parameter", "give either symbol or symbols")
	case symbol != "":
		one, err := market.ParseSymbol(symbol)
		if err != nil {
			return latestRequest{}, err
		}
		q.symbols = []market.Symbol{one}
		return q, nil
	}
	return q.ofBatch(symbols)
}

// ofBatch adds the symbols of a list, separated by commas.
func (q latestRequest) ofBatch(list string) (latestRequest, error) {
	if strings.Count(list, ",") >= maxSymbols {
		return latestRequest{}, fault.New(fault.Invalid, "invalid_parameter", "symbols has more than %d", maxSymbols)
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

package exchange

import (
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

// kinds lists the kinds of fault.
var kinds = []string{
	"extra_fields", "unknown_symbol", "bad_key", "no_key", "not_entitled", "limit_minute", "limit_day", "html", "truncated",
	"bad_price", "timeout", "error_5xx", "oversized",
}

type fault struct {
	Provider string `json:"provider"`
	Symbol   string `json:"symbol,omitempty"` // empty: every symbol
	Kind     string `json:"kind"`
	Count    int    `json:"count,omitempty"`    // number of calls; 0: until deleted
	DelayMS  int    `json:"delay_ms,omitempty"` // before the response
}

// caller is what calls are counted by.
type caller struct{ provider, symbol, of string }

// of returns what a call asks for: quotes or bars.
func of(r *http.Request) string {
	query := r.URL.Query()
	if query.Has("period1") || query.Get("function") == "TIME_SERIES_DAILY" ||
		slices.Contains([]string{"time_series", "klines", "candles"}, path.Base(r.URL.Path)) {
		return "bars"
	}
	return "quotes"
}

// called counts a call and returns the kind of fault to apply, empty for none. It waits for the fault's delay; without one, a fault
// of kind timeout waits for a minute, or until the caller gives up.
func (e *Exchange) called(r *http.Request, provider, symbol string) string {
	e.mu.Lock()
	e.calls[caller{provider, symbol, of(r)}]++
	var hit *fault
	for i, f := range e.faults {
		if f.Provider == provider && (f.Symbol == "" || strings.EqualFold(f.Symbol, symbol)) {
			copied := *f
			hit = &copied
			if f.Count--; f.Count == 0 {
				e.faults = slices.Delete(e.faults, i, i+1)
			} else if f.Count < 0 {
				f.Count = 0 // until deleted
			}
			break
		}
	}
	e.mu.Unlock()
	if hit == nil {
		return ""
	}
	delay := time.Duration(hit.DelayMS) * time.Millisecond
	if hit.Kind == "timeout" && delay == 0 {
		delay = time.Minute
	}
	if delay > 0 {
		select {
		case <-r.Context().Done():
		case <-time.After(delay):
		}
	}
	return hit.Kind
}

// read decodes the body of a request to an admin route: one JSON object, with known members.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	return jsonv2.UnmarshalRead(http.MaxBytesReader(w, r.Body, 1<<16), into, jsonv2.RejectUnknownMembers(true))
}

func (e *Exchange) addFault(w http.ResponseWriter, r *http.Request) {
	var f fault
	known := func(p Provider) bool { return p.Name == f.Provider }
	if err := read(w, r, &f); err != nil || !slices.ContainsFunc(Providers(), known) || !slices.Contains(kinds, f.Kind) ||
		f.Count < 0 || f.DelayMS < 0 || f.DelayMS > int(time.Hour/time.Millisecond) {
		http.Error(w, "want {provider, symbol, kind, count, delay_ms}; kind is one of "+strings.Join(kinds, " "), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, &f)
	w.WriteHeader(http.StatusNoContent)
}

// clearFaults ends the faults of one provider, or all.
func (e *Exchange) clearFaults(w http.ResponseWriter, r *http.Request) {
	provider := r.URL.Query().Get("provider")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = slices.DeleteFunc(e.faults, func(f *fault) bool { return provider == "" || f.Provider == provider })
	w.WriteHeader(http.StatusNoContent)
}

func (e *Exchange) countCalls(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	provider, symbol, of := query.Get("provider"), strings.ToUpper(query.Get("symbol")), query.Get("of")
	e.mu.Lock()
	n := 0
	for k, c := range e.calls {
		if (provider == "" || k.provider == provider) && (symbol == "" || k.symbol == symbol) && (of == "" || k.of == of) {
			n += c
		}
	}
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int{"calls": n}) // an error means that the caller went away
}

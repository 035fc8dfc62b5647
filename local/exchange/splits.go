package exchange

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// split replaces Denominator shares of a stock by Numerator new ones. From At on, quotes are in new shares, and so are all closes,
// except of alpha_vantage, whose closes are as traded. If Known is later than At, nobody lists the split before, and closes are as traded
// until then: the closes of before At change late, and no others.
type split struct {
	Symbol      string    `json:"symbol"`
	At          time.Time `json:"at"`
	Known       time.Time `json:"known"` // zero: at once
	Numerator   int64     `json:"numerator"`
	Denominator int64     `json:"denominator"`
}

// convert converts a price to new shares, rounded to cents.
func (s split) convert(cents int64) int64 {
	return max((cents*s.Denominator+s.Numerator/2)/s.Numerator, 1)
}

func (e *Exchange) addSplit(w http.ResponseWriter, r *http.Request) {
	var s split
	err := read(w, r, &s)
	s.Symbol = strings.ToUpper(s.Symbol)
	const most = 10_000
	if err != nil || e.instruments[s.Symbol] == nil || isCoin(s.Symbol) || s.At.IsZero() ||
		s.Numerator < 1 || s.Numerator > most || s.Denominator < 1 || s.Denominator > most {
		http.Error(w, "want {symbol, at, numerator, denominator}; symbol is a stock", http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.splits = append(e.splits, s)
	w.WriteHeader(http.StatusNoContent)
}

// clearSplits takes back the splits of a symbol, or all.
func (e *Exchange) clearSplits(w http.ResponseWriter, r *http.Request) {
	symbol := strings.ToUpper(r.URL.Query().Get("symbol"))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.splits = slices.DeleteFunc(e.splits, func(s split) bool { return symbol == "" || s.Symbol == symbol })
	w.WriteHeader(http.StatusNoContent)
}

// splitsOf returns the splits of an instrument that are in effect at a second.
func (e *Exchange) splitsOf(instrument string, second int64) []split {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.splits), func(s split) bool { return s.Symbol != instrument || s.At.Unix() > second })
}

// inShares converts a price to the shares of a second.
func (e *Exchange) inShares(instrument string, cents, second int64) int64 {
	for _, s := range e.splitsOf(instrument, second) {
		cents = s.convert(cents)
	}
	return cents
}

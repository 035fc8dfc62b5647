package exchange

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"marketdata/shared/market"
)

// draft is what a provider has of a bar between its end and Until: a close that is Change cents off, or with 0 no close at all. From Until
// on, the bar is there as if it had always been: it came late, or was corrected.
type draft struct {
	Provider string          `json:"provider"`
	Symbol   string          `json:"symbol"`
	Interval market.Interval `json:"interval"`
	Start    time.Time       `json:"start"`
	Until    time.Time       `json:"until"`
	Change   int64           `json:"change"`
}

func (e *Exchange) addDraft(w http.ResponseWriter, r *http.Request) {
	var d draft
	err := read(w, r, &d)
	d.Symbol = strings.ToUpper(d.Symbol)
	i := slices.IndexFunc(venues(), func(v venue) bool { return v.name == d.Provider })
	if err != nil || i < 0 || e.instruments[venues()[i].instrument(d.Symbol)] == nil || !slices.Contains(market.Intervals, d.Interval) ||
		d.Start.IsZero() || d.Until.IsZero() {
		http.Error(w, "want {provider, symbol, interval, start, until, change}; change is in cents, 0 for no close", http.StatusBadRequest)
		return
	}
	d.Symbol = venues()[i].instrument(d.Symbol)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drafts = append(e.drafts, d)
	w.WriteHeader(http.StatusNoContent)
}

// drafted returns a bar as the venue has it now.
func (h history) drafted(interval time.Duration, b bar) bar {
	h.e.mu.Lock()
	defer h.e.mu.Unlock()
	for _, d := range h.e.drafts {
		if b.final && d.Provider == h.venue.name && d.Symbol == h.instrument && d.Interval.Duration() == interval && d.Start.Equal(b.start) && d.Until.After(h.now) {
			b.cents, b.lost = max(b.cents+d.Change, 1), b.lost || d.Change == 0
		}
	}
	return b
}

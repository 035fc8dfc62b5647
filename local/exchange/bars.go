package exchange

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/market"
)

// bar is one interval of an instrument. Its close is the quote of its last second, or for the last bar the quote of now.
type bar struct {
	start time.Time // of a daily bar: 00:00 UTC of the trading day
	open  time.Time // of a daily bar: when its session begins; otherwise start
	end   time.Time // of the interval, or of the session if that ends sooner
	cents int64     // in shares of now, or as traded
	final bool
	lost  bool // the venue has no close for it, or not yet
}

// history is what the venue of a call has of one instrument.
type history struct {
	e          *Exchange
	venue      venue
	instrument string
	now        time.Time
}

// bars returns the bars that start in [from, to) and have begun, in order, with those that the venue lost.
func (h history) bars(interval time.Duration, from, to time.Time) []bar {
	var out []bar
	if last := h.now.Add(time.Nanosecond); to.After(last) {
		to = last
	}
	from = latest(from, h.e.listed(h.instrument))
	if isCoin(h.instrument) {
		start := from.Truncate(interval)
		if start.Before(from) {
			start = start.Add(interval)
		}
		for ; start.Before(to); start = start.Add(interval) {
			out = append(out, h.bar(interval, start, start, start.Add(interval)))
		}
		return out
	}
	for day := from.Truncate(oneDay).Add(-oneDay); day.Before(to); day = day.Add(oneDay) {
		s, open := sessionOn(day)
		switch {
		case !open || s.open.After(h.now):
		case interval == oneDay:
			if !day.Before(from) {
				out = append(out, h.bar(interval, day, s.open, s.end))
			}
		default:
			for start := s.open.UTC(); start.Before(s.end) && start.Before(to); start = start.Add(interval) {
				if !start.Before(from) {
					out = append(out, h.bar(interval, start, start, earliest(start.Add(interval), s.end)))
				}
			}
		}
	}
	return out
}

func (h history) bar(interval time.Duration, start, open, end time.Time) bar {
	return h.drafted(interval, bar{
		start, open, end, h.at(min(end.Unix()-1, h.now.Unix())), !end.After(h.now),
		h.venue.lossy && h.e.noise(h.instrument, int(interval/time.Minute), start.Unix())%50 == 0,
	})
}

// at returns the price of a second as the venue's history has it: in shares of now, or as traded.
func (h history) at(second int64) int64 {
	cents, _ := h.e.price(h.instrument, second)
	for _, s := range h.e.splitsOf(h.instrument, h.now.Unix()) {
		if asTraded := h.venue.asTraded || s.Known.After(h.now); !asTraded || s.At.Unix() <= second {
			cents = s.convert(cents)
		}
	}
	return cents
}

// kept returns the bars that the venue has a close for.
func kept(bars []bar) []bar { return slices.DeleteFunc(bars, func(b bar) bool { return b.lost }) }

// listBars answers with the bars that an adapter should find in the venue's own format.
func (e *Exchange) listBars(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	i := slices.IndexFunc(venues(), func(v venue) bool { return v.name == query.Get("provider") })
	interval, err := market.ParseInterval(query.Get("interval"))
	from, to := unixSeconds(query.Get("start")), unixSeconds(query.Get("end"))
	if i < 0 || err != nil || from.IsZero() || to.IsZero() {
		http.Error(w, "want provider, symbol, interval, and start and end in seconds since 1970", http.StatusBadRequest)
		return
	}
	type entry struct {
		Start time.Time   `json:"start"`
		Close json.Number `json:"close"`
		Final bool        `json:"final"`
	}
	h := history{e, venues()[i], venues()[i].instrument(strings.ToUpper(query.Get("symbol"))), e.now().UTC()}
	out := []entry{}
	for _, b := range kept(h.bars(interval.Duration(), from, to)) {
		out = append(out, entry{b.start, json.Number(decimalCents(b.cents)), b.final})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"bars": out}) // an error means that the caller went away
}

// unixSeconds reads seconds since 1970; zero if text is not a number.
func unixSeconds(text string) time.Time {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

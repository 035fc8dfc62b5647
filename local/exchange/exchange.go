// Package exchange is a fake of the price providers, with their exact response formats. Prices follow from real monthly closes and a
// seeded walk. It fails on request.
//
// Each provider is mounted under its name (/yfinance/…) and described by a venue in a file of its own; the answers with bars are in
// <provider>_bars.go. Quotes are for sale around the clock, but the bars of stocks keep to the sessions of New York (calendar.go).
//
// /_admin/faults makes calls fail and /_admin/calls counts them (admin.go), /_admin/splits splits a stock (splits.go), and
// /_admin/bars lists the bars that an adapter should find (bars.go), and makes some late or different at first (drafts.go).
package exchange

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Exchange emulates all providers. Safe for concurrent use.
type Exchange struct {
	seed        uint64
	now         func() time.Time
	instruments map[string][]monthlyClose
	mux         *http.ServeMux

	mu     sync.Mutex
	faults []*fault
	splits []split
	drafts []draft
	calls  map[caller]int
}

// venue describes the API of one provider.
type venue struct {
	name string
	// routes encode a quote, or the bars that the query asks for, by path under the name. They may return a whole reply.
	routes map[string]func(quote) any
	symbol func(*http.Request) string
	key    func(*http.Request) string // nil: the provider needs no key. Any key is accepted
	pair   map[string]string          // instrument by symbol; nil: the symbol is the instrument
	// refuse returns the provider's error response for a kind of fault, and false for kinds that are not errors.
	refuse func(kind string, q quote) (reply, bool)
	page   string // the web page that the fault html returns

	lossy    bool // some intervals have no close
	asTraded bool // closes are not converted after a split
}

// quote is the input of a venue's response.
type quote struct {
	symbol   string
	price    string // decimal
	previous string // decimal; the real close that the walk starts from
	at       time.Time
	key      string // sent by the caller
	kind     string // extra_fields and bad_price change the body
	query    url.Values
	history  history
}

type reply struct {
	status      int
	contentType string
	body        string
	header      map[string]string
}

func jsonReply(status int, body string) reply { return reply{status, "application/json", body, nil} }
func htmlReply(status int, body string) reply { return reply{status, "text/html", body, nil} }

// venues lists the providers in the order of market.Catalog.
func venues() []venue {
	return []venue{yfinance, alphaVantage, finnhub, twelveData, binance, coinbase}
}

// Provider is a provider that the exchange emulates.
type Provider struct {
	Name     string
	NeedsKey bool
}

// Providers lists the providers that the exchange emulates.
func Providers() []Provider {
	var out []Provider
	for _, v := range venues() {
		out = append(out, Provider{v.name, v.key != nil})
	}
	return out
}

// New returns an Exchange whose prices are a function of seed, symbol and the current second.
func New(seed uint64, now func() time.Time) *Exchange {
	e := &Exchange{seed: seed, now: now, instruments: realCloses(), mux: http.NewServeMux(), calls: map[caller]int{}}
	e.mux.HandleFunc("PUT /_admin/faults", e.addFault)
	e.mux.HandleFunc("DELETE /_admin/faults", e.clearFaults)
	e.mux.HandleFunc("GET /_admin/calls", e.countCalls)
	e.mux.HandleFunc("PUT /_admin/splits", e.addSplit)
	e.mux.HandleFunc("DELETE /_admin/splits", e.clearSplits)
	e.mux.HandleFunc("GET /_admin/bars", e.listBars)
	e.mux.HandleFunc("PUT /_admin/bars", e.addDraft)
	for _, v := range venues() {
		for path, body := range v.routes {
			e.mux.HandleFunc("GET /"+v.name+path, e.serve(v, body))
		}
	}
	return e
}

// invented is the prefix of the names of invented instruments.
const invented = "LOAD"

// Invent adds n invented instruments, LOAD0 to LOAD<n-1>, for load tests that need more symbols than the table of real closes has.
// Call it before the first request.
func (e *Exchange) Invent(n int) *Exchange {
	for i := range n {
		e.instruments[invented+strconv.Itoa(i)] = onePrice(2020, 10_000+int64(i))
	}
	return e
}

// Symbols returns the stocks of yfinance, alpha_vantage, finnhub and twelve_data, sorted, without the invented ones. binance and
// coinbase trade pairs of coins under names of their own.
func (e *Exchange) Symbols() []string {
	var out []string
	for s := range e.instruments {
		if !isCoin(s) && !strings.HasPrefix(s, invented) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// ServeHTTP answers as the provider that the first segment of the path names.
func (e *Exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// serve answers the calls of a venue: with a fault if one is set, else as the provider does, which checks the key before the symbol.
func (e *Exchange) serve(v venue, body func(quote) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := quote{symbol: strings.ToUpper(v.symbol(r)), at: e.now().UTC().Truncate(time.Second), query: r.URL.Query()}
		if v.key != nil {
			q.key = v.key(r)
		}
		q.kind = e.called(r, v.name, q.symbol)
		instrument := v.instrument(q.symbol)
		cents, known := e.price(instrument, q.at.Unix())
		q.price = decimalCents(e.inShares(instrument, cents, q.at.Unix()))
		q.previous = decimalCents(e.inShares(instrument, e.previous(instrument), q.at.Unix()))
		q.history = history{e, v, instrument, q.at}
		refusal, refused := v.refuse(q.kind, q)
		switch {
		case refused:
		case q.kind == "html":
			refusal = htmlReply(http.StatusOK, v.page)
		case v.key != nil && q.key == "":
			refusal, _ = v.refuse("no_key", q)
		case !known:
			refusal, _ = v.refuse("unknown_symbol", q)
		default:
			refusal = encode(q.kind, body(q))
		}
		refusal.write(w)
	}
}

func (v venue) instrument(symbol string) string {
	if v.pair == nil {
		if isCoin(symbol) {
			return "" // the name of a pair is not a stock
		}
		return symbol
	}
	return v.pair[symbol]
}

// encode returns the reply for a body, or the body if it is one.
func encode(kind string, body any) reply {
	if whole, ok := body.(reply); ok {
		return whole
	}
	return jsonReply(http.StatusOK, spoil(kind, body))
}

// spoil encodes a body, and truncates or inflates it if the fault says so.
func spoil(kind string, body any) string {
	b, err := json.Marshal(body)
	if err != nil {
		panic("exchange: " + err.Error()) // impossible: bodies consist of maps and strings
	}
	switch text := string(b); kind {
	case "truncated":
		return text[:len(text)/2]
	case "oversized":
		return text[:len(text)-1] + `,"padding":"` + strings.Repeat("x", 4<<20) + `"}`
	default:
		return text
	}
}

func (p reply) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", p.contentType)
	for name, value := range p.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write([]byte(p.body)) // an error means that the caller went away
}

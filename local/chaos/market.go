package chaos

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"marketdata/local/exchange"
)

// market is the emulated exchange as the functions see it. It notes each call when it arrives, before any fault, and what was answered.
type market struct {
	exchange http.Handler

	// faults is held for reading by each answer: whether it counts and what it is are of one time.
	faults sync.RWMutex
	dirty  map[string]bool // providers that answer rubbish

	mu     sync.Mutex
	link   Kind // Slow, Cut or Hang; empty: none
	over   chan struct{}
	calls  []providerCall
	served []answerOfProvider
}

// providerCall is a call that a provider has received.
type providerCall struct {
	at       time.Time
	provider string
}

// answerOfProvider is what a provider answered with status 200, while it answered quotes.
type answerOfProvider struct {
	provider, url string
	numbers       map[string]bool // canonical
}

func newMarket(seed uint64) *market {
	return &market{exchange: exchange.New(seed, time.Now).Invent(inventedSymbols), dirty: map[string]bool{}}
}

var digits = regexp.MustCompile(`\d+(\.\d+)?`)

func (m *market) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	provider, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if provider == "_admin" {
		m.exchange.ServeHTTP(w, r)
		return
	}
	m.mu.Lock()
	m.calls = append(m.calls, providerCall{time.Now(), provider})
	link, over := m.link, m.over
	m.mu.Unlock()
	switch link {
	case Slow:
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
		}
	case Hang:
		select {
		case <-over:
		case <-r.Context().Done():
		}
	case Cut:
		panic(http.ErrAbortHandler)
	default:
	}
	answer := newRecorder()
	m.faults.RLock()
	clean := !m.dirty[provider]
	m.exchange.ServeHTTP(answer, r)
	m.faults.RUnlock()
	if body := answer.body.Bytes(); clean && answer.status == http.StatusOK {
		found := map[string]bool{}
		for _, text := range digits.FindAllString(string(body), -1) {
			found[canonical(text)] = true
		}
		m.mu.Lock()
		m.served = append(m.served, answerOfProvider{provider, r.URL.String(), found})
		m.mu.Unlock()
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body.Bytes()) // an error means that the caller went away
}

// fail begins a fault of the connection to all providers, and returns what ends it.
func (m *market) fail(kind Kind) (end func()) {
	over := make(chan struct{})
	m.mu.Lock()
	m.link, m.over = kind, over
	m.mu.Unlock()
	return func() {
		m.mu.Lock()
		m.link = ""
		m.mu.Unlock()
		close(over)
	}
}

// spoil makes a provider fail in one of the exchange's own ways, none of which waits, and returns what ends it.
func (m *market) spoil(provider, kind string) (end func()) {
	m.faults.Lock()
	defer m.faults.Unlock()
	m.dirty[provider] = true
	m.admin(http.MethodPut, "/_admin/faults", `{"provider":"`+provider+`","kind":"`+kind+`"}`)
	return func() {
		m.faults.Lock()
		defer m.faults.Unlock()
		delete(m.dirty, provider)
		m.admin(http.MethodDelete, "/_admin/faults?provider="+provider, "")
	}
}

// admin asks the exchange itself.
func (m *market) admin(method, path, body string) []byte {
	answer := newRecorder()
	r, err := http.NewRequest(method, path, strings.NewReader(body)) //nolint:noctx // no network
	if err != nil {
		panic("exchange: " + err.Error()) // our own request is wrong
	}
	m.exchange.ServeHTTP(answer, r)
	if answer.status >= http.StatusMultipleChoices {
		panic("exchange: " + answer.body.String()) // the same
	}
	return answer.body.Bytes()
}

// recorder keeps a response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}, status: http.StatusOK} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// gave reports whether a provider answered a price in a response for a symbol.
func (m *market) gave(provider, symbol, price string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.served {
		if s.provider == provider && strings.Contains(s.url, symbol) && s.numbers[canonical(price)] {
			return true
		}
	}
	return false
}

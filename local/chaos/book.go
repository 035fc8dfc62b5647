package chaos

import (
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// book holds what clients and producers saw. The checker compares it with the tables and the topics.
type book struct {
	mu        sync.Mutex
	quotes    []quote
	produced  []*kgo.Record              // that the broker has acknowledged
	jobs      map[string]string          // by idempotency key: the id that was answered
	backfills map[string]string          // the same
	replays   map[string]bool            // ids that were answered
	keys      map[string]map[string]bool // idempotency keys of requests, by path, whether or not there was an answer
	streamed  map[string]state           // by symbol: the last state on any stream
	statuses  map[string]int             // requests by route and outcome
	wrong     []string                   // answers that cannot be right
}

// quote is an answer of get-latest with status 200.
type quote struct {
	sent, received time.Time
	client         string
	asked          [2]string // provider and symbol
	Symbol         string
	Provider       string
	Price          number
	Timestamp      time.Time
	Stale          bool
	alone          bool // RateLimit-Mode: degraded
}

// state is what the stream says of a series.
type state struct {
	Symbol   string
	Price    number
	AsOf     time.Time `json:"as_of"`
	Averages []averageState
}

type averageState struct {
	Window     int
	Average    number
	PointsUsed int `json:"points_used"`
	Complete   bool
}

func newBook() *book {
	return &book{jobs: map[string]string{}, backfills: map[string]string{}, replays: map[string]bool{}, keys: map[string]map[string]bool{}, streamed: map[string]state{}, statuses: map[string]int{}}
}

// note records something under the lock.
func (b *book) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *book) wrongAnswer(format string, args ...any) {
	b.note(func() { b.wrong = append(b.wrong, fmt.Sprintf(format, args...)) })
}

// number is a decimal number as it is written in JSON.
type number string

func (n *number) UnmarshalJSON(b []byte) error { *n = number(b); return nil }

// rat returns the value of a decimal number, nil if it is none.
func (n number) rat() *big.Rat {
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return nil
	}
	return r
}

// canonical returns a decimal number without zeros that say nothing.
func canonical(text string) string {
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text = strings.TrimLeft(text, "0"); text == "" || text[0] == '.' {
		return "0" + text
	}
	return text
}

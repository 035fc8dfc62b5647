// Package lettertest holds what tests of several packages share: letters, events, and a function that letters are replayed to.
package lettertest

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
)

// Poison is a value that is no event.
var Poison = []byte("\x00\xff poison")

// GoodEvent is the data of an event that compute-ma accepts.
var GoodEvent = []byte(`{"symbol":"AAPL","price":1.10,"timestamp":"2024-01-01T00:00:00Z","source":"x","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`)

// Headers returns Kafka headers from pairs of name and value.
func Headers(pairs ...string) []kafkaclient.Header {
	var out []kafkaclient.Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, kafkaclient.Header{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

// Event returns the attributes of a price event, with others from pairs of name and value.
func Event(extra ...string) map[string]string {
	m := map[string]string{"specversion": "1.0", "id": "e1", "source": "/providers/x", "type": "marketdata.price.observed.v1"}
	for i := 0; i < len(extra); i += 2 {
		m[extra[i]] = extra[i+1]
	}
	return m
}

// Fill stores n open letters of a symbol in one statement, with origins on the topic.
func Fill(t *testing.T, pool *pgxpool.Pool, topic, symbol string, n int) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `
		insert into dead_letters (id, topic, partition, record_offset, exact, value_sha256, value, headers, attributes, code, reason, fingerprint, symbol, first_failed_at, last_failed_at)
		select gen_random_uuid(), $3, i % 4, i, true, sha256(convert_to($1 || i, 'UTF8')), convert_to(i::text, 'UTF8'), '[]',
			jsonb_build_object('specversion', '1.0', 'id', $1 || ':' || i, 'source', '/s', 'type', 't'), 'x', 'x', 'x', $1, now(), now()
		from generate_series(1, $2) i`, symbol, n, topic)
	require.NoError(t, err)
}

// Count returns the number that a query selects.
func Count(t *testing.T, pool *pgxpool.Pool, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// Exec executes a statement.
func Exec(t *testing.T, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

// Target stands for compute-ma. Its fields may be set before it serves; while it serves, use Set.
type Target struct {
	mu     sync.Mutex
	Status int
	Body   string
	Got    http.Header
	Value  string
	Paths  []string                                        // of events
	Calls  map[string]int                                  // by the events' ids
	Answer func(r *http.Request) (status int, body string) // nil: Status and Body
}

// NewTarget returns a target that accepts every event.
func NewTarget() *Target { return &Target{Status: http.StatusNoContent, Calls: map[string]int{}} }

func (f *Target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	status, body, answer := f.Status, f.Body, f.Answer
	if r.Method == http.MethodPost {
		f.Got, f.Value = r.Header.Clone(), string(b)
		f.Paths = append(f.Paths, r.URL.Path)
		f.Calls[r.Header.Get("Ce-Id")]++
	}
	f.mu.Unlock()
	if answer != nil {
		status, body = answer(r)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// Set changes the answer.
func (f *Target) Set(status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Status, f.Body = status, body
}

// Events returns how many events were sent to it.
func (f *Target) Events() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.Paths)
}

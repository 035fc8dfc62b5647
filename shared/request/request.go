// Package request is what the layers of one HTTP request share through its context: its id, its trace, and what its log line says.
// Package service puts it there.
package request

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"marketdata/shared/trace"
)

// State is the state of one request. One goroutine at a time may use it.
type State struct {
	ID          string      // the client's X-Request-ID if it is usable, otherwise a new one
	Traceparent string      // W3C trace context of the request's header; empty if it had none
	EventID     string      // of an event, cut to 200 bytes; empty for other requests
	Notes       []slog.Attr // for the log line
	Err         error       // for the log line: callers see no causes, logs do
}

type stateKey struct{}

// Begin returns the request with a state in its context.
func Begin(r *http.Request) (*http.Request, *State) {
	s := &State{ID: idOf(r)}
	if t := r.Header.Get("Traceparent"); trace.Usable(t) {
		s.Traceparent = t
	}
	return r.WithContext(context.WithValue(r.Context(), stateKey{}, s)), s
}

func stateOf(ctx context.Context) *State {
	s, _ := ctx.Value(stateKey{}).(*State)
	return s
}

// ID returns the id of the request that ctx belongs to, empty if it belongs to none.
func ID(ctx context.Context) string {
	if s := stateOf(ctx); s != nil {
		return s.ID
	}
	return ""
}

// Traceparent returns the W3C trace context that events carry on: that of the current span or, without tracing, the request's own header.
func Traceparent(ctx context.Context) string {
	if header := trace.Header(ctx); header != "" {
		return header
	}
	if s := stateOf(ctx); s != nil {
		return s.Traceparent
	}
	return ""
}

// TraceIDs returns the IDs of the trace and of the span that ctx belongs to. The first is empty if the request has no trace, the second
// if no span is recorded.
func TraceIDs(ctx context.Context) (traceID, spanID string) {
	if traceID, spanID = trace.IDs(ctx); traceID != "" {
		return traceID, spanID
	}
	if s := stateOf(ctx); s != nil {
		return trace.IDOf(s.Traceparent), ""
	}
	return "", ""
}

// NoteError keeps err for the request's log line.
func NoteError(ctx context.Context, err error) {
	if s := stateOf(ctx); s != nil {
		s.Err = err
	}
}

// maxEventID bounds an event's id in a log line, in bytes.
const maxEventID = 200

// NoteEvent marks the request as an event and keeps its id, which must not be empty, for the log line. An event that is acknowledged
// without an error or a [Note] has a log line at debug level only; one line every 10 s sums such events up.
func NoteEvent(ctx context.Context, id string) {
	if s := stateOf(ctx); s != nil {
		s.EventID = Cut(id, maxEventID)
	}
}

// Note adds attributes to the request's log line. An event with a note always has one at info level.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if s := stateOf(ctx); s != nil {
		s.Notes = append(s.Notes, attrs...)
	}
}

// Identify gives a request an id where no service does, and sets its X-Request-ID, so that it is passed on.
func Identify(r *http.Request) *http.Request {
	s := &State{ID: idOf(r)}
	r = r.Clone(context.WithValue(r.Context(), stateKey{}, s))
	r.Header.Set("X-Request-ID", s.ID)
	return r
}

func idOf(r *http.Request) string {
	if id := r.Header.Get("X-Request-ID"); usableID(id) {
		return id
	}
	return newID()
}

// usableID reports 1 to 128 of A-Z a-z 0-9 . _ : - , which no log needs to escape.
func usableID(id string) bool {
	other := func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != ':' && c != '-'
	}
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, other)
}

// newID returns a random UUID (RFC 9562, version 4). An id is no secret, so the runtime's generator will do: it takes a tenth of the
// time of the system's.
func newID() string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// Cut shortens text to at most n bytes, with an ellipsis if it was longer. Bytes that are not UTF-8 are replaced.
func Cut(text string, n int) string {
	if len(text) <= n {
		return strings.ToValidUTF8(text, "\ufffd")
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

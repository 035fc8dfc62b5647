// Package ingress receives CloudEvents over HTTP, binary or structured, and raw records of the OpenFaaS Kafka connector
// (X-Topic, X-Kafka-*). It is a package of its own so that functions without events do not link the SDK's HTTP binding, which takes
// a twentieth of the time from exec to the first response.
package ingress

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"marketdata/shared/crowd"
	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
)

// Delivery is one event as received over HTTP: the decoded event and the request's header and body.
type Delivery struct {
	Event  event.Event // see [Decode]; the zero Event if the request is not a CloudEvent
	Header http.Header // the request's headers
	Body   []byte      // the request's body, unchanged; only its beginning if [Delivery.Cut]
	Size   int64       // of the whole body
	SHA256 []byte      // of the whole body; nil unless Cut
	// StatusIgnored means that the sender ignores the response status, as OpenFaaS' Kafka connector does: the event is never
	// redelivered.
	StatusIgnored bool
}

// Cut reports whether the body was so large that only its beginning was kept.
func (d Delivery) Cut() bool { return d.Size > int64(len(d.Body)) }

// Extension returns a CloudEvent extension as text, in binary and in structured mode; empty if absent. Extensions with names that
// are not valid in CloudEvents are read from the header.
func (d Delivery) Extension(name string) string {
	if text, ok := d.Attribute(name); ok {
		return text
	}
	return d.Header.Get("Ce-" + name)
}

// Attribute returns an extension of the decoded event; ok is false if it is absent. The SDK's getter would copy all extensions.
func (d Delivery) Attribute(name string) (text string, ok bool) {
	var all map[string]any
	switch c := d.Event.Context.(type) {
	case *event.EventContextV1:
		all = c.Extensions
	case *event.EventContextV03:
		all = c.Extensions
	}
	text, ok = all[name].(string)
	return text, ok
}

// FromTopic reports whether the delivery is a Kafka record: a KafkaSource sends its offset, OpenFaaS' connector its topic.
func (d Delivery) FromTopic() bool {
	return d.Extension("knativekafkaoffset") != "" || d.StatusIgnored && !isCron(d.Header)
}

// IsTick reports whether the delivery is a tick of a PingSource or of OpenFaaS' cron connector. A delivery with a topic,
// partition or offset never is: the type of a record is up to its producer, and a tick is acknowledged without a look at its
// data.
func (d Delivery) IsTick() bool {
	if d.Event.Type() != tickType || d.FromTopic() || d.Extension("knativekafkapartition") != "" || d.Extension("kafkatopic") != "" {
		return false
	}
	for name := range d.Header {
		if strings.HasPrefix(name, "X-Kafka-") {
			return false
		}
	}
	return true
}

// Func handles one delivery. nil acknowledges it. The response to an error depends on its kind: 422 for Invalid (dead letter sink),
// otherwise a status that the platform retries.
type Func func(ctx context.Context, d Delivery) error

// InTurn gives deliveries their turns, of which c has enough for all that platforms send at a time. Some are in no crowd: those whose sender
// ignores the answer, because a refusal would lose them, and ticks, which others wait for.
func InTurn(c crowd.Crowd, handle Func) Func {
	return func(ctx context.Context, d Delivery) error {
		if d.StatusIgnored || d.IsTick() {
			return handle(ctx, d)
		}
		if err := c.Enter(ctx); err != nil {
			return err
		}
		defer c.Leave()
		return handle(ctx, d)
	}
}

// Turns returns the crowd of a function's deliveries. As many are worked on at a time as transactions and batches take: more would not be
// faster.
func Turns() crowd.Crowd { return crowd.New(512, time.Second/2) }

// Handler receives events. It is used in place of the SDK's HTTP server, which does not let us set body limit, status and error
// body, and leaks requests when a client disconnects (see the README's decisions).
type Handler struct {
	MaxBytes int64 // larger bodies go to Refuse
	Handle   Func  // must be idempotent: events are redelivered
	// Refuse gets deliveries that are too large or not a valid CloudEvent (Event is then the zero Event), or on which Handle panicked.
	// Its result is treated like that of Handle. If Refuse is nil, the response is that of reason.
	Refuse func(ctx context.Context, d Delivery, reason error) error
}

// ServeHTTP responds with 204, or with a problem document and a status for events. A request of another site's page in a browser is
// refused before it is read, and without a dead letter: no platform sends Origin.
func (in Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := request.CheckOrigin(r)
	if err == nil {
		err = in.receive(r)
	}
	if err != nil {
		problem.WriteEvent(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (in Handler) receive(r *http.Request) error {
	d, err := Read(r, in.MaxBytes)
	switch {
	case err == nil:
		if err = Guard(func() error { return in.Handle(r.Context(), d) }); fault.CodeOf(err) != fault.CodePanic {
			return err
		}
	case d.Header == nil:
		return err
	}
	if in.Refuse == nil {
		return err
	}
	return Guard(func() error { return in.Refuse(r.Context(), d, err) })
}

const (
	// MaxHeaderBytes is the limit that a server of events needs: a record's headers and key arrive as HTTP headers. A topic limits
	// their size only after compression.
	MaxHeaderBytes = 16 << 20
	// keptBytes is how much of a body that is too large is kept. Our topics accept that much, so that a dead letter has the whole
	// value if possible.
	keptBytes = 2 << 20
	// endlessBytes is the most that is read of a body: more than a broker sends to a consumer in one response.
	endlessBytes = 256 << 20
)

// Read reads one event. Errors: Unavailable "incomplete_request" if the body ended early, with the zero Delivery; Invalid
// "body_too_large" for more than maxBytes, and Invalid "undecodable" if it is not a CloudEvent, both with the Delivery, which the
// caller must not lose.
func Read(r *http.Request, maxBytes int64) (Delivery, error) {
	d := Delivery{Header: r.Header, StatusIgnored: fromConnector(r.Header)}
	if err := d.read(r, max(maxBytes, keptBytes)); err != nil { // the sender disconnected or was too slow, and will redeliver
		return Delivery{}, fault.Wrap(err, fault.Unavailable, fault.CodeIncompleteRequest, "the request's body ended early")
	}
	if d.Size > maxBytes {
		return d, fault.New(fault.Invalid, fault.CodeBodyTooLarge, "the event is larger than %d bytes", maxBytes)
	}
	e, err := Decode(r.Header, d.Body)
	if err == nil {
		d.Event = e
		request.NoteEvent(r.Context(), e.ID())
	}
	return d, err
}

// read reads the body. It keeps at most keep bytes, and the length and digest of a longer body.
func (d *Delivery) read(r *http.Request, keep int64) error {
	const firstGuess = 64 << 10 // Content-Length may be wrong
	buf := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), firstGuess)+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(r.Body, keep))
	d.Body, d.Size = buf.Bytes(), int64(buf.Len())
	if err != nil || d.Size < keep {
		return err
	}
	digest := sha256.New()
	digest.Write(d.Body)
	rest, err := io.Copy(digest, io.LimitReader(r.Body, endlessBytes))
	if rest > 0 {
		d.Size, d.SHA256 = d.Size+rest, digest.Sum(nil)
	}
	return err
}

// Guard returns a panic of f as a permanent error, because the same event would panic again.
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()), fault.Invalid, fault.CodePanic, "the function failed on this event")
		}
	}()
	return f()
}

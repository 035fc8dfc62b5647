// Package ingress receives CloudEvents over HTTP, binary or structured, and raw records of the OpenFaaS Kafka connector
// (X-Topic, X-Kafka-*). It is a package of its own so that functions without events do not link the SDK's HTTP binding,
// which takes a twentieth of the time from exec to the first answer.
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

	"github.com/cloudevents/sdk-go/v2/event"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
)

// Delivery is one event as it came over HTTP: the decoded event and the very bytes it was made of.
type Delivery struct {
	Event  event.Event // see [Decode]; the zero Event where the request is not a CloudEvent
	Header http.Header // the request's headers
	Body   []byte      // the request's body, byte for byte; only its beginning if [Delivery.Cut]
	Size   int64       // of the whole body
	SHA256 []byte      // of the whole body; nil unless Cut
	// StatusIgnored means that the sender acknowledges the event whatever the answer is, as OpenFaaS' Kafka connector does: it is
	// not delivered again.
	StatusIgnored bool
}

// Cut reports a body so large that only its beginning was kept.
func (d Delivery) Cut() bool { return d.Size > int64(len(d.Body)) }

// Extension gives a CloudEvent extension as text, in binary and structured mode alike; empty if absent. One whose name is not a
// CloudEvents name is in the header alone.
func (d Delivery) Extension(name string) string {
	if text, ok := d.Attribute(name); ok {
		return text
	}
	return d.Header.Get("Ce-" + name)
}

// Attribute gives an extension of the decoded event; not ok: it has none of that name. The SDK's own getter copies all of them.
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

// FromTopic reports a delivery of a Kafka record: a KafkaSource tells the record's offset, OpenFaaS' connector its topic.
func (d Delivery) FromTopic() bool {
	return d.Extension("knativekafkaoffset") != "" || d.StatusIgnored && !isCron(d.Header)
}

// IsTick reports a tick of a PingSource, or of OpenFaaS' cron connector. What names any part of a record's place is never
// one: whoever can write to a topic chooses the record's type, and a tick is acknowledged without being looked at.
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

// Func handles one delivery. nil acknowledges it; an error is answered by its kind: Invalid 422 (dead letter sink),
// anything else with a status that the platform retries.
type Func func(ctx context.Context, d Delivery) error

// Handler receives events. It owns body limit, status and error body, which the SDK's own HTTP server does not let us (it
// also strands requests when a client goes away; see the README's decisions).
type Handler struct {
	MaxBytes int64 // larger bodies go to Refuse
	Handle   Func  // must be idempotent: deliveries repeat
	// Refuse takes deliveries that are too large, or no valid CloudEvent (Event is then the zero Event), or on which Handle
	// panicked. Its result is answered like that of Handle. nil answers them as Invalid.
	Refuse func(ctx context.Context, d Delivery, reason error) error
}

// ServeHTTP answers 204, or a problem document with the event surface's status. What a browser sends for another site's page
// is refused before it is read, and never buried: no platform sends Origin.
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
		if err = Guard(func() error { return in.Handle(r.Context(), d) }); fault.CodeOf(err) != codePanic {
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
	// MaxHeaderBytes is what a server of events must take: a record's headers and key come as HTTP headers. A topic bounds
	// them only after compression.
	MaxHeaderBytes = 16 << 20
	// keptBytes is how much is kept of a body that is too large: a topic of ours takes that much, so that a dead letter has
	// the value whole where it can.
	keptBytes = 2 << 20
	// endlessBytes ends the reading of a body: more than a consumer is ever sent in one response of the broker.
	endlessBytes = 256 << 20
)

// Read reads one event. Errors: Unavailable "incomplete_request" for a body that ended early, without a Delivery; Invalid
// "body_too_large" for more than maxBytes and Invalid "undecodable" for what is no CloudEvent, both with the Delivery: the
// caller must not lose it.
func Read(r *http.Request, maxBytes int64) (Delivery, error) {
	d := Delivery{Header: r.Header, StatusIgnored: fromConnector(r.Header)}
	if err := d.read(r, max(maxBytes, keptBytes)); err != nil { // the sender went away half-way; it will deliver again
		return Delivery{}, fault.Wrap(err, fault.Unavailable, "incomplete_request", "the request's body ended early")
	}
	if d.Size > maxBytes {
		return d, fault.New(fault.Invalid, "body_too_large", "the event is larger than %d bytes", maxBytes)
	}
	e, err := Decode(r.Header, d.Body)
	if err == nil {
		d.Event = e
		request.NoteEvent(r.Context(), e.ID())
	}
	return d, err
}

// read keeps the first bytes of the body and, of a longer one, its length and digest.
func (d *Delivery) read(r *http.Request, keep int64) error {
	const firstGuess = 64 << 10 // a length is only a claim
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

// fromConnector reports a request of one of OpenFaaS' connectors.
func fromConnector(h http.Header) bool { return h.Get("X-Topic") != "" }

const codePanic = "panic"

// Guard turns a panic into a permanent error: the same event would panic again.
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()), fault.Invalid, codePanic, "the function failed on this event")
		}
	}()
	return f()
}

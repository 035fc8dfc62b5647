// Package ingress receives CloudEvents over HTTP, binary or structured, and raw records of the OpenFaaS Kafka connector
// (X-Topic, X-Kafka-*). It is a package of its own so that functions without events do not link the SDK's HTTP binding,
// which takes a twentieth of the time from exec to the first answer.
package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/service"
)

// Delivery is one event as it came over HTTP: the decoded event and the very bytes it was made of.
type Delivery struct {
	Event  event.Event // valid
	Header http.Header // the request's headers
	Body   []byte      // the request's body, byte for byte
}

// Func handles one delivery. nil acknowledges it; an error is answered by its kind: Invalid 422 (dead letter sink),
// anything else with a status that the platform retries.
type Func func(ctx context.Context, d Delivery) error

// Handler receives events. It owns body limit, status and error body, which the SDK's own HTTP server does not let us (it
// also strands requests when a client goes away; see the README's decisions).
type Handler struct {
	MaxBytes int64 // larger bodies are 413, which a KafkaSource sends to its dead letter sink at once
	Handle   Func  // must be idempotent: deliveries repeat
	// Refuse takes deliveries that are no valid CloudEvent (Event is then the zero Event), or on which Handle panicked. Its
	// result is answered like that of Handle. nil answers them as Invalid.
	Refuse func(ctx context.Context, d Delivery, reason error) error
}

// ServeHTTP answers 204, or a problem document with the event surface's status.
func (in Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := in.receive(w, r); err != nil {
		service.WriteEventProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (in Handler) receive(w http.ResponseWriter, r *http.Request) error {
	d, err := Read(w, r, in.MaxBytes)
	switch {
	case err == nil:
		if err = guard(func() error { return in.Handle(r.Context(), d) }); fault.CodeOf(err) != codePanic {
			return err
		}
	case d.Header == nil:
		return err
	}
	if in.Refuse == nil {
		return err
	}
	return guard(func() error { return in.Refuse(r.Context(), d, err) })
}

// maxRecordBytes is what a topic of ours takes: a raw record can be no larger.
const maxRecordBytes = 2 << 20

// Read reads one event of at most maxBytes. Errors: Unavailable "incomplete_request" for a body that ended early,
// Invalid "body_too_large"; both without a Delivery; Invalid "undecodable" for what is no valid CloudEvent, with header
// and body all the same. A raw record that is too large comes with its Delivery, too: its connector takes every answer
// for an acknowledgement, so that a 413 alone would lose it.
func Read(w http.ResponseWriter, r *http.Request, maxBytes int64) (Delivery, error) {
	limit := maxBytes
	if IgnoresStatus(r.Header) {
		limit = max(limit, maxRecordBytes)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	tooLarge := fault.New(fault.Invalid, "body_too_large", "the event is larger than %d bytes", maxBytes)
	switch {
	case errors.As(err, &over):
		return Delivery{}, tooLarge
	case err != nil: // the sender went away half-way; it will deliver again
		return Delivery{}, fault.Wrap(err, fault.Unavailable, "incomplete_request", "the request's body ended early")
	}
	d := Delivery{Header: r.Header, Body: body}
	if int64(len(body)) > maxBytes {
		return d, tooLarge
	}
	d.Event, err = Decode(r.Header, body)
	return d, err
}

// IgnoresStatus reports a delivery of the OpenFaaS Kafka connector, which acknowledges whatever is answered.
func IgnoresStatus(h http.Header) bool { return h.Get("X-Topic") != "" }

const codePanic = "panic"

// guard turns a panic into a permanent error: the same event would panic again.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fault.Wrap(fmt.Errorf("panic: %v\n%s", v, debug.Stack()), fault.Invalid, codePanic, "the function failed on this event")
		}
	}()
	return f()
}

// Decode reads a CloudEvent from an HTTP request's parts. A raw record with X-Topic becomes the event that a
// KafkaSource makes of a plain record (type dev.knative.kafka.event, id partition:P/offset:O), a call of OpenFaaS' cron
// connector that of a PingSource. Errors are Invalid with code "undecodable".
func Decode(header http.Header, body []byte) (event.Event, error) {
	if topic := header.Get("X-Topic"); topic != "" && header.Get("Ce-Specversion") == "" {
		return connectorEvent(header, topic, body)
	}
	r := &http.Request{Method: http.MethodPost, Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		return event.Event{}, fault.Wrap(err, fault.Invalid, "undecodable", "the request is not a CloudEvent")
	}
	if err := e.Validate(); err != nil {
		return event.Event{}, fault.Wrap(err, fault.Invalid, "undecodable", "the CloudEvent is not valid")
	}
	return *e, nil
}

// cronTopic is what the cron connector calls its ticks.
const cronTopic = "cron-function"

func connectorEvent(header http.Header, topic string, body []byte) (event.Event, error) {
	e := event.New()
	if topic == cronTopic {
		e.SetType("dev.knative.sources.ping")
		e.SetSource("/openfaas/cron-connector")
		e.SetID(uuid.NewString())
		return e, nil
	}
	partition, offset := header.Get("X-Kafka-Partition"), header.Get("X-Kafka-Offset")
	e.SetType("dev.knative.kafka.event")
	e.SetSource("/openfaas/kafka-connector#" + topic)
	e.SetID("partition:" + partition + "/offset:" + offset)
	e.SetExtension("kafkatopic", topic)
	if err := e.SetData("application/json", body); err != nil {
		return event.Event{}, fault.Wrap(err, fault.Invalid, "undecodable", "the record has no usable data")
	}
	if err := e.Validate(); err != nil {
		return event.Event{}, fault.Wrap(err, fault.Invalid, "undecodable", "the delivery's X-Kafka headers are not usable")
	}
	return e, nil
}

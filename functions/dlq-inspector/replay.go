package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// replayLease is how long a replay may take before its letter is open again: more than the client's timeout.
const replayLease = time.Minute

// sendWait is for the broker's acknowledgement of a copy.
const sendWait = 10 * time.Second

type replayStore interface {
	transition(ctx context.Context, id uuid.UUID, who, action, reason string, change func(*stored) error) (stored, error)
	refused(ctx context.Context, id uuid.UUID, f failure) error
}

// publisher sends records to topics.
type publisher interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// replayer delivers letters again to the function that refused them, and so knows the outcome; or sends exact copies to
// their topics, for other consumers.
type replayer struct {
	store      replayStore
	target     string
	client     *http.Client
	topics     []string // that copies may be sent to
	records    publisher
	maxReplays int
	now        func() time.Time
}

// The targets of a replay.
const (
	toFunction = "function"
	toTopic    = "topic"
)

// order is what an operator asks for.
type order struct {
	who, reason string
	value       []byte // replaces the letter's, if edited
	edited      bool
	force       bool
	target      string // toFunction or toTopic
}

// run replays one letter and gives its status after: to the function, 204 makes it resolved, 422 open again with the new
// failure; to the topic, it is sent. Anything else opens it again and is Unavailable, code "replay_failed". The event keeps id
// and source. Conflict: the letter is not open ("not_open"), was replayed too often ("replay_limit"), or there is no exact copy
// of it to send ("not_exact"). Invalid: the edited value would be refused, or is for a topic.
func (r *replayer) run(ctx context.Context, id uuid.UUID, o order) (status string, err error) {
	if o.edited && o.target == toTopic {
		return "", fault.New(fault.Invalid, "invalid_parameter", "an edited value goes to the function: a topic gets exact copies")
	}
	if o.edited {
		if _, err := priceevent.Decode(o.value, 0, r.now()); err != nil {
			return "", err
		}
	}
	token := uuid.New()
	l, err := r.store.transition(ctx, id, o.who, "replay", o.reason, func(s *stored) error {
		switch {
		case s.Status != "open":
			return fault.New(fault.Conflict, "not_open", "the letter is %s, not open", s.Status)
		case s.ReplayCount >= r.maxReplays && !o.force:
			return fault.New(fault.Conflict, "replay_limit", "the letter was replayed %d times; force replays it once more", s.ReplayCount)
		case o.target == toTopic && !r.sendable(*s):
			return fault.New(fault.Conflict, "not_exact", "only an exact copy of a record can be sent, and to a topic of ours")
		}
		s.Status, s.token, s.lease = "replaying", &token, new(replayLease)
		s.ReplayCount++
		if o.edited {
			s.Correction++
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var outcome error
	if o.target == toTopic {
		outcome = r.send(ctx, l)
	} else {
		value := l.Value
		if o.edited {
			value = o.value
		}
		outcome = r.deliver(ctx, l, value, token, o.edited)
	}
	// The letter must not stay in replaying because the operator went away.
	return r.settle(context.WithoutCancel(ctx), id, o, token, outcome)
}

// settle writes the outcome, unless the replay took longer than its lease and somebody else has the letter.
func (r *replayer) settle(ctx context.Context, id uuid.UUID, o order, token uuid.UUID, outcome error) (status string, err error) {
	permanent := fault.Permanent(outcome)
	action, status, reason := "resolve", "resolved", ""
	if o.target == toTopic {
		action, status = "send", "sent"
	}
	if outcome != nil {
		action, status, reason = "reopen", "open", outcomeText(outcome)
	}
	_, err = r.store.transition(ctx, id, o.who, action, reason, func(s *stored) error {
		if s.Status != "replaying" || s.token == nil || *s.token != token {
			return fault.New(fault.Conflict, "replay_lost", "the replay took too long; the letter is open again")
		}
		s.Status, s.token, s.lease = status, nil, nil
		if outcome != nil && !permanent {
			s.ReplayCount-- // no verdict: an outage must not use up a letter's replays
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case outcome == nil:
		return status, nil
	case permanent:
		f := failure{Code: truncate(fault.CodeOf(outcome), 200), Reason: outcomeText(outcome), Function: "replay", FailedAt: r.now().UTC()}
		return status, r.store.refused(ctx, id, f)
	}
	return status, fault.Wrap(outcome, fault.Unavailable, "replay_failed", "the function did not give a verdict; the letter is open again").After(5 * time.Second)
}

func outcomeText(err error) string {
	if f, ok := fault.As(err); ok {
		return truncate(clean(f.Detail), 2000)
	}
	return "trouble while replaying"
}

// sendable reports whether there is an exact copy of the letter's record, and a topic that it may be sent to.
func (r *replayer) sendable(l stored) bool {
	return l.Exact && l.Origin != nil && slices.Contains(r.topics, l.Origin.Topic)
}

// send writes an exact copy of the letter's record to its topic: key, value and headers.
func (r *replayer) send(ctx context.Context, l stored) error {
	headers := make([]kafkaclient.Header, len(l.Headers))
	for i, h := range l.Headers {
		headers[i] = kafkaclient.Header{Name: h.Name, Value: h.Value}
	}
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	return r.records.Produce(ctx, kafkaclient.Record{Topic: l.Origin.Topic, Key: l.Key, Value: l.Value, Headers: headers})
}

// rehearse asks the function what it would make of a letter, and gives the status that a replay would: resolved or open. Nothing
// changes. Unavailable, code "replay_failed": no verdict.
func (r *replayer) rehearse(ctx context.Context, l stored) (status string, err error) {
	noVerdict := func(cause error) error {
		return fault.Wrap(cause, fault.Unavailable, "replay_failed", "the function did not give a verdict")
	}
	answer, body, err := r.post(ctx, "/dry-run", l, l.Value, uuid.New(), false)
	switch {
	case err != nil && fault.Permanent(err):
		return "open", nil
	case err != nil:
		return "", noVerdict(err)
	case answer == http.StatusUnprocessableEntity, answer == http.StatusRequestEntityTooLarge:
		return "open", nil
	}
	var v struct{ Verdict string }
	if err := json.Unmarshal(body, &v); err != nil || answer != http.StatusOK {
		return "", noVerdict(fmt.Errorf("status %d", answer))
	}
	switch v.Verdict {
	case "applied", "duplicate":
		return "resolved", nil
	case "dead_letter":
		return "open", nil
	}
	return "", noVerdict(fmt.Errorf("verdict %q", v.Verdict))
}

// post sends the event to a path of the function and gives status and body of its answer. Errors: Unavailable
// "target_unavailable", Invalid "unsendable_attribute".
func (r *replayer) post(ctx context.Context, path string, l stored, value []byte, token uuid.UUID, edited bool) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.target, "/")+path, bytes.NewReader(value))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	if err := setHeaders(req.Header, l, token, edited); err != nil {
		return 0, nil, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, nil, fault.Wrap(err, fault.Unavailable, "target_unavailable", "the function does not answer")
	}
	defer resp.Body.Close()                                  //nolint:errcheck // read below
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is cut off says nothing that is read
	return resp.StatusCode, body, nil
}

// deliver posts the event once and turns the answer into an outcome: nil, Invalid (refused) or Unavailable.
func (r *replayer) deliver(ctx context.Context, l stored, value []byte, token uuid.UUID, edited bool) error {
	answer, body, err := r.post(ctx, "/", l, value, token, edited)
	if err != nil {
		return err
	}
	switch answer {
	case http.StatusNoContent:
		return nil
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		var problem struct{ Code, Detail string }
		if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
			problem.Code, problem.Detail = "http_"+strconv.Itoa(answer), "the function refuses the event"
		}
		return fault.New(fault.Invalid, clean(problem.Code), "%s", clean(problem.Detail))
	}
	return fault.New(fault.Unavailable, "target_unavailable", "the function answered with status %d", answer)
}

// setHeaders writes the event's attributes. A letter that was no CloudEvent is delivered as the plain record it was, as
// a KafkaSource would. The knativekafka extensions are left out: with them compute-ma would take it for a delivery.
func setHeaders(h http.Header, l stored, token uuid.UUID, edited bool) error {
	for name, value := range l.Attributes {
		if !sendable(value) {
			return fault.New(fault.Invalid, "unsendable_attribute", "the attribute %s has characters that no header can have", name)
		}
		h.Set("Ce-"+name, value)
	}
	if h.Get("Ce-Specversion") == "" || h.Get("Ce-Id") == "" || h.Get("Ce-Source") == "" || h.Get("Ce-Type") == "" {
		h.Set("Ce-Specversion", "1.0")
		h.Set("Ce-Type", "dev.knative.kafka.event")
		h.Set("Ce-Id", "letter:"+l.ID.String())
		h.Set("Ce-Source", "/dlq-inspector")
		if l.Origin != nil {
			h.Set("Ce-Id", fmt.Sprintf("partition:%d/offset:%d", l.Origin.Partition, l.Origin.Offset))
			h.Set("Ce-Source", "/topics/"+l.Origin.Topic)
		}
	}
	h.Set("Ce-Replayid", token.String())
	h.Set("Ce-Replaycount", strconv.Itoa(l.ReplayCount))
	h.Del("Ce-Correction")
	if l.Correction > 0 {
		h.Set("Ce-Correction", strconv.Itoa(l.Correction))
	}
	switch {
	case edited:
		h.Set("Content-Type", "application/json")
	case l.ContentType != "" && sendable(l.ContentType):
		h.Set("Content-Type", l.ContentType)
	}
	return nil
}

func sendable(s string) bool {
	for _, c := range s {
		if c < 0x20 && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

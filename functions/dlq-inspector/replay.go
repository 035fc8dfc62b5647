package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/priceevent"
)

// replayLease is how long a replay may take before its letter is open again: more than the client's timeout.
const replayLease = time.Minute

type replayStore interface {
	transition(ctx context.Context, id uuid.UUID, who, action, reason string, change func(*state) error) (stored, error)
	refused(ctx context.Context, id uuid.UUID, f failure) error
}

// replayer delivers letters again to the function that refused them, and so knows the outcome.
type replayer struct {
	store      replayStore
	target     string
	client     *http.Client
	maxReplays int
	now        func() time.Time
}

// order is what an operator asks for.
type order struct {
	who, reason string
	value       []byte // replaces the letter's, if edited
	edited      bool
	force       bool
}

// run replays one letter: 204 resolves it, 422 opens it again with the new failure, anything else opens it again and is
// Unavailable, code "replay_failed". The event keeps id and source. Conflict: the letter is not open ("not_open"), or
// was replayed too often ("replay_limit"). Invalid: the edited value would be refused.
func (r *replayer) run(ctx context.Context, id uuid.UUID, o order) error {
	if o.edited {
		if _, err := priceevent.Decode(o.value, 0, r.now()); err != nil {
			return err
		}
	}
	token := uuid.New()
	l, err := r.store.transition(ctx, id, o.who, "replay", o.reason, func(s *state) error {
		switch {
		case s.Status != "open":
			return fault.New(fault.Conflict, "not_open", "the letter is %s, not open", s.Status)
		case s.ReplayCount >= r.maxReplays && !o.force:
			return fault.New(fault.Conflict, "replay_limit", "the letter was replayed %d times; force replays it once more", s.ReplayCount)
		}
		s.Status, s.token, s.lease = "replaying", &token, new(replayLease)
		s.ReplayCount++
		if o.edited {
			s.Correction++
		}
		return nil
	})
	if err != nil {
		return err
	}
	value := l.Value
	if o.edited {
		value = o.value
	}
	outcome := r.deliver(ctx, l, value, token, o.edited)
	// The letter must not stay in replaying because the operator went away.
	return r.settle(context.WithoutCancel(ctx), id, o.who, token, outcome)
}

// settle writes the outcome, unless the replay took longer than its lease and somebody else has the letter.
func (r *replayer) settle(ctx context.Context, id uuid.UUID, who string, token uuid.UUID, outcome error) error {
	permanent := fault.Permanent(outcome)
	action, status, reason := "resolve", "resolved", ""
	if outcome != nil {
		action, status, reason = "reopen", "open", outcomeText(outcome)
	}
	_, err := r.store.transition(ctx, id, who, action, reason, func(s *state) error {
		if s.Status != "replaying" || s.token == nil || *s.token != token {
			return fault.New(fault.Conflict, "replay_lost", "the replay took too long; the letter is open again")
		}
		s.Status, s.token, s.lease = status, nil, nil
		return nil
	})
	switch {
	case err != nil:
		return err
	case outcome == nil:
		return nil
	case permanent:
		f := failure{Code: truncate(fault.CodeOf(outcome), 200), Reason: outcomeText(outcome), Function: "replay", FailedAt: r.now().UTC()}
		return r.store.refused(ctx, id, f)
	}
	return fault.Wrap(outcome, fault.Unavailable, "replay_failed", "the function did not give a verdict; the letter is open again").After(5 * time.Second)
}

func outcomeText(err error) string {
	if f, ok := fault.As(err); ok {
		return truncate(clean(f.Detail), 2000)
	}
	return "trouble while replaying"
}

// deliver posts the event once and turns the answer into an outcome: nil, Invalid (refused) or Unavailable.
func (r *replayer) deliver(ctx context.Context, l stored, value []byte, token uuid.UUID, edited bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.target, "/")+"/", bytes.NewReader(value))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if err := setHeaders(req.Header, l, token, edited); err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "target_unavailable", "the function does not answer")
	}
	defer resp.Body.Close() //nolint:errcheck // read below
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		var problem struct{ Code, Detail string }
		if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
			problem.Code, problem.Detail = "http_"+strconv.Itoa(resp.StatusCode), "the function refuses the event"
		}
		return fault.New(fault.Invalid, clean(problem.Code), "%s", clean(problem.Detail))
	}
	return fault.New(fault.Unavailable, "target_unavailable", "the function answered with status %d", resp.StatusCode)
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

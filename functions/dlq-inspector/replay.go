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
)

const (
	// replayLease is how long a replay of one letter may take before its letter is open again.
	replayLease = 15 * time.Second
	// verdictWait is for the answer of the function, or of the broker: with the statements around it, less than the lease.
	verdictWait = 11 * time.Second
)

// The targets of a replay.
const (
	toFunction = "function"
	toTopic    = "topic"
)

type transitioner interface {
	transition(ctx context.Context, id uuid.UUID, c change) (stored, error)
}

// publisher sends records to topics.
type publisher interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// replayer delivers letters again to the function that refused them, and so knows the outcome; or sends exact copies to
// their topics, for other consumers.
type replayer struct {
	store      transitioner
	target     string
	client     *http.Client
	topics     []string // that copies may be sent to
	records    publisher
	maxReplays int
	now        func() time.Time
}

// replayClient is the client of a replayer. Connections are kept, enough for a replay of many.
func replayClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConns: lanes * laneLetters, MaxIdleConnsPerHost: lanes * laneLetters, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		// An answer that points elsewhere is no verdict.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// order is what an operator asks for.
type order struct {
	who, reason string
	value       []byte // replaces the letter's, if edited
	edited      bool
	force       bool
	target      string // toTopic, else to the function
}

// run replays one letter and gives it as it is after: to the function, 204 makes it resolved, 422 open again with the new
// failure; to the topic, it is sent, or Invalid, code "body_too_large", if the topic can never take it. Anything else opens it again
// and is Unavailable, code "replay_failed". The event keeps id and source. Conflict: the letter is not open ("not_open"), was replayed too often ("replay_limit"), or there is no exact copy
// of it to send ("not_exact"). Invalid: the edited value would be refused, or is for a topic.
func (r *replayer) run(ctx context.Context, id uuid.UUID, o order) (stored, error) {
	var by *edit
	if o.edited {
		if o.target == toTopic {
			return stored{}, fault.New(fault.Invalid, "invalid_parameter", "an edited value goes to the function: a topic gets exact copies")
		}
		var err error
		if by, err = readEdit(o.value, r.now()); err != nil {
			return stored{}, err
		}
	}
	token := uuid.New()
	begin := change{who: o.who, action: "replay", reason: o.reason, apply: func(l stored) (state, error) {
		if o.target == toTopic && !r.sendable(l) {
			return l.state, notExact()
		}
		return l.begin(attempt{token: token, lease: new(replayLease), edited: o.edited, force: o.force, maxReplays: r.maxReplays})
	}}
	if by != nil {
		begin.value = by.written
	}
	l, err := r.store.transition(ctx, id, begin)
	if err != nil {
		return stored{}, err
	}
	// What has begun is finished, whether or not the operator is still there.
	ctx = context.WithoutCancel(ctx)
	v := r.attempt(ctx, l, token, o.target, by)
	return r.settle(ctx, id, o.who, token, v)
}

// attempt sends a letter and gives the verdict on it.
func (r *replayer) attempt(ctx context.Context, l stored, token uuid.UUID, target string, by *edit) verdict {
	ctx, cancel := context.WithTimeout(ctx, verdictWait)
	defer cancel()
	if target == toTopic {
		return r.send(ctx, l)
	}
	return r.deliver(ctx, l, token, by)
}

// settle writes the verdict, unless the replay took longer than its lease and somebody else has the letter.
func (r *replayer) settle(ctx context.Context, id uuid.UUID, who string, token uuid.UUID, v verdict) (stored, error) {
	end := change{who: who, action: actionOf(v.outcome), reason: v.reason, apply: func(l stored) (state, error) { return l.end(token, v.outcome) }}
	if v.outcome == outcomeRefused {
		end.failure = v.failure(r.now())
	}
	l, err := r.store.transition(ctx, id, end)
	switch {
	case err != nil:
		return stored{}, err
	case v.outcome == outcomeSkipped:
		return l, fault.New(fault.Invalid, v.code, "%s; the letter is open again", v.reason)
	case v.outcome == outcomeNone:
		return l, fault.New(fault.Unavailable, "replay_failed", "there is no verdict (%s); the letter is open again", v.reason).After(5 * time.Second)
	}
	return l, nil
}

// actionOf is what the audit trail calls the end of a replay.
func actionOf(outcome string) string {
	switch outcome {
	case outcomeResolved:
		return "resolve"
	case outcomeSent:
		return "send"
	}
	return "reopen"
}

func (v verdict) failure(at time.Time) *failure {
	return &failure{Code: v.code, Reason: v.reason, Function: "replay", FailedAt: at.UTC()}
}

func notExact() error {
	return fault.New(fault.Conflict, "not_exact", "only an exact copy of a record can be sent, and to a topic of ours")
}

// sendable reports whether there is an exact copy of the letter's record, and a topic that it may be sent to.
func (r *replayer) sendable(l stored) bool {
	return l.Exact && l.Origin != nil && slices.Contains(r.topics, l.Origin.Topic)
}

// send writes an exact copy of the letter's record to its topic: key, value and headers. What the topic can never take is
// skipped: it must not hold up the letters behind it, and to try again would not help.
func (r *replayer) send(ctx context.Context, l stored) verdict {
	headers := make([]kafkaclient.Header, len(l.Headers))
	for i, h := range l.Headers {
		headers[i] = h.kafka()
	}
	err := r.records.Produce(ctx, kafkaclient.Record{Topic: l.Origin.Topic, Key: l.Key, Value: l.Value, Headers: headers})
	switch {
	case err == nil:
		return verdict{outcome: outcomeSent}
	case fault.Permanent(err):
		return verdict{outcomeSkipped, "body_too_large", outcomeText(err)} // the one thing that a topic refuses for good
	}
	return verdict{outcomeNone, fault.CodeOf(err), outcomeText(err)}
}

// deliver posts the event once and turns the answer into a verdict.
func (r *replayer) deliver(ctx context.Context, l stored, token uuid.UUID, by *edit) verdict {
	header, value := outgoing(l, token, by)
	status, body, err := r.post(ctx, "/", header, value)
	if err != nil {
		return verdict{outcomeNone, "target_unavailable", "the function does not answer"}
	}
	switch status {
	case http.StatusNoContent:
		return verdict{outcome: outcomeResolved}
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return refusal(status, body)
	}
	return noVerdict(status)
}

func noVerdict(status int) verdict {
	return verdict{outcomeNone, "target_unavailable", fmt.Sprintf("the function answers with status %d", status)}
}

func refusal(status int, body []byte) verdict {
	var problem struct{ Code, Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		problem.Code, problem.Detail = "http_"+strconv.Itoa(status), "the function refuses the event"
	}
	return verdict{outcomeRefused, truncate(clean(problem.Code), 200), truncate(clean(problem.Detail), 2000)}
}

// rehearse asks the function what it would make of a letter. Nothing changes.
func (r *replayer) rehearse(ctx context.Context, l stored) verdict {
	ctx, cancel := context.WithTimeout(ctx, verdictWait)
	defer cancel()
	header, value := outgoing(l, uuid.New(), nil)
	status, body, err := r.post(ctx, "/dry-run", header, value)
	if err != nil {
		return verdict{outcomeNone, "target_unavailable", "the function does not answer"}
	}
	if status == http.StatusUnprocessableEntity || status == http.StatusRequestEntityTooLarge {
		return refusal(status, body)
	}
	var v struct{ Verdict, Code, Reason string }
	if status != http.StatusOK || json.Unmarshal(body, &v) != nil {
		return noVerdict(status)
	}
	switch v.Verdict {
	case "applied", "duplicate":
		return verdict{outcome: outcomeResolved}
	case "dead_letter":
		return verdict{outcomeRefused, truncate(clean(v.Code), 200), truncate(clean(v.Reason), 2000)}
	}
	return verdict{outcomeNone, "target_unavailable", "the function cannot tell now: " + truncate(clean(v.Reason), 200)}
}

// post sends the event to a path of the function and gives status and body of its answer. An error means that there is none.
func (r *replayer) post(ctx context.Context, path string, header http.Header, value []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.target, "/")+path, bytes.NewReader(value))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = header
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()                                    //nolint:errcheck // read below
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is cut off says nothing that is read
	return resp.StatusCode, body, err
}

// Package replay delivers dead letters again: one letter ([Replayer]), or all letters that a filter selects ([Runner]).
//
// A replay to the function has a verdict, which is the function's answer (function.go); a replay to the topic sends an exact copy of
// the record to all consumers of the topic (topic.go). outgoing.go turns a letter into a request. Bulk replays are in bulk.go (types
// and rules, pure), runner.go (which replays this process works on), and drive*.go (one turn at one replay). What the package needs
// of the tables is in [LetterStore] and [BulkStore].
package replay

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

const (
	// Lease is how long the replay of one letter may take. Then the letter is open again.
	Lease = 15 * time.Second
	// VerdictTimeout is for the answer of the function or the broker. With the statements before and after it, that is less than Lease.
	VerdictTimeout = 11 * time.Second
)

// Target is where a replay sends a letter.
type Target string

// The targets.
const (
	ToFunction Target = "function" // that refused the event
	ToTopic    Target = "topic"    // of the original record
)

// Codes of verdicts that are no fault's.
const (
	CodeTargetUnavailable = "target_unavailable" // the function gave no verdict
	CodeNoVerdict         = "no_verdict"         // a bulk replay gave up on the letter
	CodeNotTried          = "not_tried"          // the letter was taken, but not sent
)

// LetterStore makes transitions. [store.Store] is one.
type LetterStore interface {
	// Transition changes a letter and returns it as it is afterwards. Errors are those of c.Apply, NotFound, or Unavailable.
	Transition(ctx context.Context, id uuid.UUID, c letter.Change) (letter.Stored, error)
}

// Producer sends records to topics. [kafkaclient.Producer] is one.
type Producer interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// Config is what a Replayer needs.
type Config struct {
	Store      LetterStore
	Function   string       // its URL
	Client     *http.Client // for requests to the function; see [NewClient]
	Topics     []string     // that copies may be sent to
	Producer   Producer
	MaxReplays int // of one letter without force
	Now        func() time.Time
}

// Replayer replays letters. Safe for concurrent use.
type Replayer struct{ Config }

// New returns a Replayer.
func New(c Config) *Replayer { return &Replayer{c} }

// Order is what an operator asks for.
type Order struct {
	Who    string
	Reason string
	Value  []byte // replaces the letter's value if Edited
	Edited bool
	Force  bool   // MaxReplays does not apply
	Target Target // anything but ToTopic is ToFunction
}

// Run replays one letter and returns it as it is afterwards. The event keeps its id and source.
//
// If the function answers 204, the letter is resolved; if it answers 422 or 413, the letter is open again, with the new failure. After
// a replay to the topic the letter is sent. In all other cases the letter is open again, and the error is Unavailable, code
// replay_failed, or Invalid, code body_too_large, if the topic can never accept the record.
//
// Nothing is sent after these errors: Conflict, codes not_open, replay_limit and not_exact; Invalid, if the edited value would be refused
// or the target is a topic; and those of [LetterStore].
func (r *Replayer) Run(ctx context.Context, id uuid.UUID, o Order) (letter.Stored, error) {
	var by *edit
	if o.Edited {
		if o.Target == ToTopic {
			return letter.Stored{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "an edited value goes to the function: a topic gets exact copies")
		}
		var err error
		if by, err = readEdit(o.Value, r.Now()); err != nil {
			return letter.Stored{}, err
		}
	}
	token := uuid.New()
	begin := letter.Change{Who: o.Who, Action: letter.ActionReplay, Reason: o.Reason, Apply: func(l letter.Stored) (letter.State, error) {
		if o.Target == ToTopic && !r.sendable(l.Exact, l.Origin) {
			return l.State, errNotExact
		}
		return l.Begin(letter.Attempt{Token: token, Lease: new(Lease), Edited: o.Edited, Force: o.Force, MaxReplays: r.MaxReplays})
	}}
	if by != nil {
		begin.Value = by.written
	}
	l, err := r.Store.Transition(ctx, id, begin)
	if err != nil {
		return letter.Stored{}, err
	}
	// A replay that has begun is finished, even if the operator has gone away.
	ctx = context.WithoutCancel(ctx)
	return r.settle(ctx, id, o.Who, token, r.attempt(ctx, l, token, o.Target, by))
}

// attempt sends a letter and returns the verdict.
func (r *Replayer) attempt(ctx context.Context, l letter.Stored, token uuid.UUID, to Target, by *edit) letter.Verdict {
	ctx, cancel := context.WithTimeout(ctx, VerdictTimeout)
	defer cancel()
	if to == ToTopic {
		return r.send(ctx, l)
	}
	return r.deliver(ctx, l, token, by)
}

// settle writes the verdict. It changes nothing if the replay outlived its lease: then another replay may have the letter.
func (r *Replayer) settle(ctx context.Context, id uuid.UUID, who string, token uuid.UUID, v letter.Verdict) (letter.Stored, error) {
	end := letter.Change{
		Who: who, Action: v.Outcome.Action(), Reason: v.Reason, Apply: func(l letter.Stored) (letter.State, error) { return l.End(token, v.Outcome) },
	}
	if v.Outcome == letter.OutcomeRefused {
		end.Failure = &deadletter.Failure{Code: v.Code, Reason: v.Reason, Function: "replay", FailedAt: r.Now().UTC()}
	}
	l, err := r.Store.Transition(ctx, id, end)
	switch {
	case err != nil:
		return letter.Stored{}, err
	case v.Outcome == letter.OutcomeSkipped:
		return l, fault.New(fault.Invalid, v.Code, "%s; the letter is open again", v.Reason)
	case v.Outcome == letter.OutcomeNone:
		return l, fault.New(fault.Unavailable, fault.CodeReplayFailed, "there is no verdict (%s); the letter is open again", v.Reason).After(5 * time.Second)
	}
	return l, nil
}

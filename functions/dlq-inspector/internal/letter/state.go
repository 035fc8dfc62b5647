package letter

import (
	"math"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

// Status is where a letter is in its life. README.md draws the life as a diagram.
type Status string

// The statuses.
const (
	Open      Status = "open"      // an operator can replay or discard it
	Replaying Status = "replaying" // a replay has it in flight
	Resolved  Status = "resolved"  // the function accepted the event
	Sent      Status = "sent"      // a copy of the record was sent to its topic; open again if the copy is refused
	Discarded Status = "discarded" // an operator set it aside
)

// Statuses returns all statuses.
func Statuses() []Status { return []Status{Open, Replaying, Resolved, Sent, Discarded} }

// Outcome is how a replay or a bulk discard of a letter ended, or how it would end if it is rehearsed.
type Outcome string

// The outcomes.
const (
	OutcomeResolved  Outcome = "resolved"  // the function accepted the event
	OutcomeSent      Outcome = "sent"      // the broker acknowledged the copy
	OutcomeRefused   Outcome = "refused"   // the letter is open again, with the new failure
	OutcomeDiscarded Outcome = "discarded" // the letter is set aside
	OutcomeSkipped   Outcome = "skipped"   // the letter did not change, and Verdict.Code says why it cannot be settled
	OutcomeNone      Outcome = "none"      // no verdict: the letter is open again, and the attempt does not count
)

// Verdict is the result of a replay.
type Verdict struct {
	Outcome Outcome
	Code    string // of a refusal, a skip, or of what prevented a verdict
	Reason  string
}

// State is the part of a letter that replays and operators change. Its methods are the transitions: each returns the state after it,
// or the state unchanged and an error of kind Conflict. JSON has only what the audit trail keeps.
type State struct {
	Status      Status `json:"status"`
	ReplayCount int    `json:"replay_count"` // replays that ended with a verdict
	Correction  int    `json:"correction"`   // greatest that the event or its replays carried

	Token    *uuid.UUID     `json:"-"` // of the replay in flight
	Lease    *time.Duration `json:"-"` // of that replay; nil: it belongs to a bulk replay, whose lease counts
	Bulk     *uuid.UUID     `json:"-"` // the bulk replay that has taken the letter and not yet counted an outcome
	Troubles int            `json:"-"` // attempts of that bulk replay that ended without a verdict
}

// Attempt is a replay that is about to begin.
type Attempt struct {
	Token      uuid.UUID
	Lease      *time.Duration
	Edited     bool // it sends another value than the letter's
	Force      bool // MaxReplays does not apply
	MaxReplays int
}

// Begin starts a replay of an open letter. Codes: not_open; replay_limit if the letter was replayed MaxReplays times, or if its
// correction cannot be increased.
func (s State) Begin(a Attempt) (State, error) {
	switch {
	case s.Status != Open:
		return s, s.notOpen()
	case s.ReplayCount >= a.MaxReplays && !a.Force:
		return s, fault.New(fault.Conflict, fault.CodeReplayLimit, "the letter was replayed %d times; force replays it once more", s.ReplayCount)
	case a.Edited && s.Correction == math.MaxInt32:
		return s, fault.New(fault.Conflict, fault.CodeReplayLimit, "the event carries the greatest correction there is; no other can go before it")
	}
	s.Status, s.Token, s.Lease = Replaying, &a.Token, a.Lease
	if a.Edited {
		s.Correction++ // before the event is sent: even if the answer is lost, the function may have applied it
	}
	return s, nil
}

// End ends the replay that has this token. Code replay_lost: the replay outlived its lease, so the letter is open again, or in another
// replay.
func (s State) End(token uuid.UUID, outcome Outcome) (State, error) {
	if s.Status != Replaying || s.Token == nil || *s.Token != token {
		return s, fault.New(fault.Conflict, fault.CodeReplayLost, "the replay took too long; the letter is open again")
	}
	s.Token, s.Lease = nil, nil
	switch outcome {
	case OutcomeResolved:
		s.Status = Resolved
	case OutcomeSent:
		s.Status = Sent
	default:
		s.Status = Open
	}
	if outcome != OutcomeNone {
		s.ReplayCount++ // only verdicts count: neither an outage nor a kill uses up a letter's replays
	}
	return s, nil
}

// Discard sets an open letter aside. Code not_open.
func (s State) Discard() (State, error) {
	if s.Status != Open {
		return s, s.notOpen()
	}
	s.Status = Discarded
	return s, nil
}

// Restore opens a discarded letter again. Code not_discarded.
func (s State) Restore() (State, error) {
	if s.Status != Discarded {
		return s, fault.New(fault.Conflict, fault.CodeNotDiscarded, "the letter is %s, not discarded", s.Status)
	}
	s.Status = Open
	return s, nil
}

func (s State) notOpen() error {
	return fault.New(fault.Conflict, fault.CodeNotOpen, "the letter is %s, not open", s.Status)
}

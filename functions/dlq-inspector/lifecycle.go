package main

import (
	"math"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

// The life of a letter:
//
//	open ──begin──▶ replaying ──end──▶ resolved | sent
//	 ▲ │               │
//	 │ │               └──end (refused, or no verdict), or its lease ran out──▶ open
//	 │ └──discard──▶ discarded
//	 └──restore──────────┘
//
// A letter that was sent and comes back as a dead letter is open again.
const (
	statusOpen      = "open"
	statusReplaying = "replaying"
	statusResolved  = "resolved"
	statusSent      = "sent"
	statusDiscarded = "discarded"
)

// state is what replays and operators change about a letter.
type state struct {
	Status      string `json:"status"`
	ReplayCount int    `json:"replay_count"` // verdicts that replays gave
	Correction  int    `json:"correction"`   // greatest that the event or its replays carried

	token    *uuid.UUID     // of the replay under way
	lease    *time.Duration // of that replay; nil: it is part of a replay of many, whose lease counts
	bulk     *uuid.UUID     // the replay of many that still owes the letter an outcome
	troubles int            // attempts of that replay that ended without a verdict
}

// attempt is a replay that is about to begin.
type attempt struct {
	token      uuid.UUID
	lease      *time.Duration
	edited     bool // it sends another value than the letter's
	force      bool // whatever the number of replays
	maxReplays int
}

// begin gives the state of a letter whose replay is under way. Conflict: the letter is not open ("not_open"), or was replayed
// too often ("replay_limit").
func (s state) begin(a attempt) (state, error) {
	switch {
	case s.Status != statusOpen:
		return s, fault.New(fault.Conflict, "not_open", "the letter is %s, not open", s.Status)
	case s.ReplayCount >= a.maxReplays && !a.force:
		return s, fault.New(fault.Conflict, "replay_limit", "the letter was replayed %d times; force replays it once more", s.ReplayCount)
	case a.edited && s.Correction == math.MaxInt32:
		return s, fault.New(fault.Conflict, "replay_limit", "the event carries the greatest correction there is; no other can go before it")
	}
	s.Status, s.token, s.lease = statusReplaying, &a.token, a.lease
	if a.edited {
		// Before it is sent: if the answer is lost, the event may have been applied all the same.
		s.Correction++
	}
	return s, nil
}

// verdict is what came of a replay.
type verdict struct {
	outcome string // one of the outcomes below
	code    string // of the refusal or the trouble
	reason  string
}

// What came of a replay. A dry run has the same words for what would.
const (
	outcomeResolved = "resolved"
	outcomeSent     = "sent"
	outcomeRefused  = "refused" // open again, with the new failure
	outcomeSkipped  = "skipped" // of a replay of many: the letter stays as it is, for a reason of its own
	outcomeNone     = "none"    // no verdict: open again, and the attempt does not count
)

// end gives the state of a letter whose replay has ended. Conflict "replay_lost": the replay took longer than its lease, and
// the letter may be somebody else's by now.
func (s state) end(token uuid.UUID, outcome string) (state, error) {
	if s.Status != statusReplaying || s.token == nil || *s.token != token {
		return s, fault.New(fault.Conflict, "replay_lost", "the replay took too long; the letter is open again")
	}
	s.token, s.lease = nil, nil
	switch outcome {
	case outcomeResolved:
		s.Status = statusResolved
	case outcomeSent:
		s.Status = statusSent
	default:
		s.Status = statusOpen
	}
	if outcome != outcomeNone {
		s.ReplayCount++ // verdicts alone count: neither an outage nor a kill uses up a letter's replays
	}
	return s, nil
}

// discard sets an open letter aside. Conflict "not_open".
func (s state) discard() (state, error) {
	if s.Status != statusOpen {
		return s, fault.New(fault.Conflict, "not_open", "the letter is %s, not open", s.Status)
	}
	s.Status = statusDiscarded
	return s, nil
}

// restore opens a discarded letter again. Conflict "not_discarded".
func (s state) restore() (state, error) {
	if s.Status != statusDiscarded {
		return s, fault.New(fault.Conflict, "not_discarded", "the letter is %s, not discarded", s.Status)
	}
	s.Status = statusOpen
	return s, nil
}

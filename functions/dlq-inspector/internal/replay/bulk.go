package replay

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

// BulkLease is how long a process holds a bulk replay that it does not renew; it renews it every second. If the process dies, another
// one resumes the replay after that time, and the process that starts in its place at once.
const BulkLease = 5 * time.Second

// BulkStatus is where a bulk replay is in its life.
type BulkStatus string

// The statuses. All but Running are final.
const (
	Running   BulkStatus = "running"
	Completed BulkStatus = "completed" // every letter has its outcome
	Cancelled BulkStatus = "cancelled" // by an operator
	Stopped   BulkStatus = "stopped"   // by the stop rule, for the reason in StopReason
)

// BulkAction is what bulk work does with its letters.
type BulkAction string

// The actions.
const (
	ActionReplay  BulkAction = "replay"
	ActionDiscard BulkAction = "discard"
)

// Bulk is a replay or discard of many letters.
type Bulk struct {
	ID          uuid.UUID
	Action      BulkAction // empty: ActionReplay
	Status      BulkStatus
	Who         string
	Reason      string
	Filter      letter.Filter
	Target      Target // of a replay
	Transform   string // a jq program for the values; empty: they stay
	DryRun      bool   // letters are rehearsed, and nothing of them changes
	Force       bool   // neither the stop rule nor MaxReplays applies
	Rate        int    // letters a second, at most
	LastLetter  uuid.UUID
	Cursor      uuid.UUID          // of replays to the function, which go by the ids of letters
	At          *kafkaclient.Place // the cursor of replays to topics, which go by origins
	Matched     int64              // letters whose ids were given, or open letters that the filter selected when the replay was created
	Outcomes    map[letter.Outcome]int64
	Reasons     map[string]int64 // refused and skipped letters by code
	Recent      string           // the latest verdicts, oldest first; see [Bulk.remember]
	CancelledBy *string
	StopReason  *string
	Trouble     *string // why it is paused
	CreatedAt   time.Time
	FinishedAt  *time.Time
	Lease       *uuid.UUID // of the process that works on it
}

// Candidate is a letter that a bulk replay comes to, without its contents.
type Candidate struct {
	letter.State

	ID     uuid.UUID
	Exact  bool
	Origin *kafkaclient.Place
	Bytes  int64 // of its contents, approximately
}

// Advance is the progress of a bulk replay that one statement adds to its row.
type Advance struct {
	Cursor   *uuid.UUID         // nil: it stays
	At       *kafkaclient.Place // nil: it stays
	Outcomes map[letter.Outcome]int64
	Reasons  map[string]int64
	Recent   string // new verdicts, oldest first
	Stop     string // why the replay stops; empty: it does not
	Verdicts []LetterVerdict
	Samples  []Sample // of a plan
}

// LetterVerdict is a verdict that is kept until the replay is a week old: each of a plan, and otherwise why a letter was skipped.
type LetterVerdict struct {
	ID      uuid.UUID
	Verdict letter.Verdict
}

func newAdvance() Advance {
	return Advance{Outcomes: map[letter.Outcome]int64{}, Reasons: map[string]int64{}}
}

// count counts a letter's outcome. keep says that its verdict is kept.
func (a *Advance) count(id uuid.UUID, v letter.Verdict, keep bool) {
	if a.Outcomes[v.Outcome]++; v.Code != "" {
		a.Reasons[v.Code]++
	}
	if keep {
		a.Verdicts = append(a.Verdicts, LetterVerdict{id, v})
	}
}

// skip counts a letter that is skipped.
func (a *Advance) skip(id uuid.UUID, code, reason string) {
	a.count(id, letter.Verdict{Outcome: letter.OutcomeSkipped, Code: code, Reason: reason}, true)
}

// Discarded counts letters of which some were discarded. The others were not open.
func (a Advance) Discarded(ids, done []uuid.UUID) Advance {
	open := map[uuid.UUID]bool{}
	for _, id := range done {
		open[id] = true
	}
	for _, id := range ids {
		if open[id] {
			a.count(id, letter.Verdict{Outcome: letter.OutcomeDiscarded}, false)
		} else {
			a.skip(id, fault.CodeNotOpen, "the letter is not open")
		}
	}
	return a
}

// MaxSamples is how many letters a plan shows.
const MaxSamples = 10

// Sample is a letter of a plan before and after.
type Sample struct {
	ID          uuid.UUID      `json:"id"`
	Before      []byte         `json:"before"` // the beginning
	BeforeBytes int            `json:"before_bytes"`
	After       []byte         `json:"after"` // the beginning; nil: nothing would be sent
	AfterBytes  int            `json:"after_bytes"`
	Verdict     letter.Verdict `json:"verdict"`
}

// sampleBytes is how much of a value a sample has.
const sampleBytes = 2 << 10

func sampleOf(l letter.Stored, sent []byte, v letter.Verdict) Sample {
	return Sample{ID: l.ID, Before: beginning(l.Value), BeforeBytes: len(l.Value), After: beginning(sent), AfterBytes: len(sent), Verdict: v}
}

// beginning cuts a value between two characters, if it is text.
func beginning(value []byte) []byte {
	if len(value) <= sampleBytes {
		return value
	}
	if utf8.Valid(value) {
		return []byte(letter.Truncate(string(value), sampleBytes))
	}
	return value[:sampleBytes]
}

// Take is a letter that a bulk replay takes.
type Take struct {
	ID    uuid.UUID
	Token uuid.UUID
	Count int    // replays that it had as a Candidate
	Begin bool   // false: a replay of this one letter is in flight, and the bulk replay waits for it
	Value []byte // that is sent instead of the letter's; nil: its own
}

// Result is what a bulk replay made of a letter that it had in flight.
type Result struct {
	Letter  letter.Stored // as it was claimed
	After   letter.State
	Owed    bool // it has no outcome yet
	Verdict letter.Verdict
}

// ErrLost means that the replay has ended, or that another process works on it. Nothing was written.
var ErrLost = errors.New("the replay has ended, or another process works on it")

// BulkStore keeps bulk replays and the letters that they take. Each method is one transaction. Errors are Unavailable, or ErrLost where
// the method says so. [store.Store] is one.
type BulkStore interface {
	// ClaimBulk leases the running replay that has waited longest to a holder; ok is false if no replay is due.
	ClaimBulk(ctx context.Context, holder string) (b Bulk, ok bool, err error)
	// NextDue returns how long it is until a running replay is due that no process renews; ok is false if no replay is running.
	NextDue(ctx context.Context) (after time.Duration, ok bool, err error)
	// TakeBack ends the leases of a holder that has died.
	TakeBack(ctx context.Context, holder string) error
	// Renew extends the lease; ours is false if it is lost or the replay has ended.
	Renew(ctx context.Context, b Bulk) (ours bool, err error)
	// Rest ends the lease. The replay is due again after a while; trouble says why it is paused, if it is.
	Rest(ctx context.Context, b Bulk, after time.Duration, trouble string) error
	// Complete ends the replay; done is false if letters still wait for an outcome.
	Complete(ctx context.Context, b Bulk) (done bool, err error)

	// Selected returns the letters after the cursor that the filter selects, with those that are in flight elsewhere.
	Selected(ctx context.Context, b Bulk, limit int) ([]Candidate, error)
	// Owed returns the letters that the replay has taken and that have no outcome yet.
	Owed(ctx context.Context, b Bulk, limit int) ([]Candidate, error)
	// Letters returns letters with their contents.
	Letters(ctx context.Context, ids []uuid.UUID) ([]letter.Stored, error)
	// Note adds an advance. ErrLost.
	Note(ctx context.Context, b Bulk, a Advance) error
	// Claim takes letters, adds an advance, and returns the letters that are in flight now. freed are letters owed before, whose
	// outcome a counts. ErrLost.
	Claim(ctx context.Context, b Bulk, a Advance, takes []Take, freed []uuid.UUID) ([]letter.Stored, error)
	// Discard discards those letters that are open, skips the others, adds the advance, and returns it with what was counted. ErrLost.
	Discard(ctx context.Context, b Bulk, a Advance, ids []uuid.UUID) (Advance, error)
	// Settle writes results and adds the advance that counts them. It may be called again after an error. ErrLost.
	Settle(ctx context.Context, b Bulk, a Advance, all []Result) error
}

// decision is what a bulk replay does with a letter that it comes to.
type decision int

const (
	doTake decision = iota
	doWait          // a replay of this one letter is in flight: the outcome comes later
	doSkip
)

// decide is pure. why says why a letter is skipped.
func (b Bulk) decide(c Candidate, sendable bool, maxReplays int) (d decision, why error) {
	switch {
	case c.Bulk != nil && *c.Bulk != b.ID:
		return doSkip, fault.New(fault.Conflict, fault.CodeNotOpen, "another bulk replay has the letter")
	case b.Action == ActionDiscard:
		_, why = c.Discard()
	case c.Status == letter.Replaying && !b.DryRun:
		return doWait, nil
	case b.Target == ToTopic && !sendable:
		return doSkip, errNotExact
	default:
		_, why = c.Begin(letter.Attempt{MaxReplays: maxReplays, Force: b.Force, Edited: b.Transform != ""})
	}
	if why != nil {
		return doSkip, why
	}
	return doTake, nil
}

// The stop rule: a replay stops if more than half of its last 200 verdicts are refusals.
const (
	stopWindow  = 200
	stopRefused = stopWindow / 2
)

// Verdicts in [Bulk.Recent].
const (
	recentAccepted = 'a'
	recentRefused  = 'r'
)

// remember appends verdicts to the latest ones. stop says why the replay has to stop; empty: it does not.
func (b Bulk) remember(recent, verdicts string) (now, stop string) {
	now = recent + verdicts
	if len(now) > stopWindow {
		now = now[len(now)-stopWindow:]
	}
	refused := 0
	for _, v := range now {
		if v == recentRefused {
			refused++
		}
	}
	if len(now) == stopWindow && refused > stopRefused && !b.Force && !b.DryRun {
		stop = "more than half of the last 200 letters were refused: remove the cause first, or go on with force"
	}
	return now, stop
}

// Package letter is a dead letter and its life. It is pure: it reads and writes nothing.
//
// A [Letter] is what is kept of a record, [Stored] the letter as it is read back, and [State] the part of it that changes: the state
// machine is in state.go. event.go reads the event out of a record, failure.go why it failed, and text.go makes texts storable.
package letter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// MaxRequestBytes limits a request that carries a letter: no record of a topic with a limit of 2 MiB exceeds it, even in base64.
const MaxRequestBytes = 4 << 20

// Letter is a dead letter before it is stored.
type Letter struct {
	Origin      *kafkaclient.Place // of the original record; nil if unknown
	RecordedAt  time.Time          // zero if unknown
	Exact       bool               // key, value and headers are those of the original record
	Key         []byte
	Value       []byte
	Headers     []kafkaclient.Header
	Attributes  map[string]string
	ContentType string
	Symbol      string
}

// Digest returns the SHA-256 of the whole value, which is a part of the letter's identity. Of a value that was cut, the dead letter record
// names it, so the letter is the same one whether the original is still there or not.
func (l *Letter) Digest() [sha256.Size]byte {
	if c := deadletter.CutOf(l.Headers); c != nil && !l.Exact {
		if sum, err := hex.DecodeString(c.SHA256); err == nil && len(sum) == sha256.Size {
			return [sha256.Size]byte(sum)
		}
	}
	return sha256.Sum256(l.Value)
}

// Arrival is a letter on its way into the tables.
type Arrival struct {
	Letter

	Failure deadletter.Failure
	At      *kafkaclient.Place // of the dead letter record that reports the failure; nil if unknown
}

// Stored is a letter as it is read from the tables. In a list, it has no key, value, headers and attributes.
type Stored struct {
	State

	ID            uuid.UUID
	Origin        *kafkaclient.Place
	RecordedAt    *time.Time
	Exact         bool
	Key           []byte
	Value         []byte
	Headers       []Header
	Attributes    map[string]string
	ContentType   string
	Code          string // of the latest failure
	Reason        string // of the latest failure
	Fingerprint   string
	Symbol        *string
	FirstFailedAt time.Time
	LastFailedAt  time.Time
	FailureCount  int
}

// Cut describes a value of which only the beginning is stored; nil if the value is whole.
func (l Stored) Cut() *deadletter.Cut {
	if l.Exact {
		return nil
	}
	return deadletter.CutOf(KafkaHeaders(l.Headers))
}

// Header is a Kafka header in JSON. The value is base64, so any bytes fit; null and empty stay apart.
type Header struct {
	Name  string `json:"name"`
	Raw   []byte `json:"raw_name,omitempty"` // the name's own bytes if they are not storable text
	Value []byte `json:"value"`
}

// Kafka returns the header as the record has it.
func (h Header) Kafka() kafkaclient.Header {
	if h.Raw != nil {
		return kafkaclient.Header{Name: string(h.Raw), Value: h.Value}
	}
	return kafkaclient.Header{Name: h.Name, Value: h.Value}
}

// HeadersOf returns Kafka headers in their JSON form.
func HeadersOf(headers []kafkaclient.Header) []Header {
	out := make([]Header, len(headers))
	for i, h := range headers {
		out[i] = Header{Name: Clean(h.Name), Value: h.Value}
		if out[i].Name != h.Name {
			out[i].Raw = []byte(h.Name)
		}
	}
	return out
}

// KafkaHeaders is the inverse of [HeadersOf].
func KafkaHeaders(headers []Header) []kafkaclient.Header {
	out := make([]kafkaclient.Header, len(headers))
	for i, h := range headers {
		out[i] = h.Kafka()
	}
	return out
}

// Action names a change of a letter in its audit trail.
type Action string

// The actions of replays and operators. The trail also has recover, by the store.
const (
	ActionReplay  Action = "replay"
	ActionResolve Action = "resolve"
	ActionSend    Action = "send"
	ActionReopen  Action = "reopen"
	ActionDiscard Action = "discard"
	ActionRestore Action = "restore"
)

// Action returns the name of the change that has this outcome.
func (o Outcome) Action() Action {
	switch o {
	case OutcomeResolved:
		return ActionResolve
	case OutcomeSent:
		return ActionSend
	case OutcomeDiscarded:
		return ActionDiscard
	case OutcomeRefused, OutcomeSkipped, OutcomeNone:
	}
	return ActionReopen
}

// Change is one transition of a letter, with its entry in the audit trail.
type Change struct {
	Who     string
	Action  Action
	Reason  string
	Value   []byte                      // that an edited replay sends; nil: the letter's own
	Failure *deadletter.Failure         // of a replay that was refused; nil: none
	Apply   func(Stored) (State, error) // the transition; it may be called more than once
}

// AuditEntry is one change of a letter in its audit trail.
type AuditEntry struct {
	At     time.Time
	Who    string
	Action Action
	Reason string
	Before json.RawMessage
	After  json.RawMessage
	Size   *int   // of the value that an edited replay sent; nil: it sent the letter's own
	Value  []byte // nil if it is too old to be shown
}

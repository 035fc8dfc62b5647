package operators

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/deadletter"
	"marketdata/shared/priceevent"
)

// Summary is a letter in a list, without its contents. It is exported because the document would otherwise leave it out of
// [LetterBody].
type Summary struct {
	ID            uuid.UUID `json:"id" format:"uuid"`
	Status        string    `json:"status" enum:"open,replaying,resolved,sent,discarded"`
	Code          string    `json:"code" doc:"Of the latest failure"`
	Reason        string    `json:"reason"`
	Meaning       string    `json:"meaning,omitempty" doc:"What the code means, if it is one of compute-ma's"`
	Remedy        string    `json:"remedy,omitempty" doc:"What can be done about it"`
	Fingerprint   string    `json:"fingerprint" doc:"The same for failures of one cause"`
	Symbol        *string   `json:"symbol" nullable:"true"`
	Topic         *string   `json:"topic" nullable:"true" doc:"Of the original record"`
	Partition     *int32    `json:"partition" nullable:"true"`
	Offset        *int64    `json:"offset" nullable:"true"`
	Exact         bool      `json:"exact" doc:"Key, value and headers are the original record's own"`
	FirstFailedAt time.Time `json:"first_failed_at"`
	LastFailedAt  time.Time `json:"last_failed_at"`
	FailureCount  int       `json:"failure_count"`
	ReplayCount   int       `json:"replay_count"`
}

func summaryOf(l letter.Stored) Summary {
	s := Summary{
		ID: l.ID, Status: string(l.Status), Code: l.Code, Reason: l.Reason, Fingerprint: l.Fingerprint, Symbol: l.Symbol, Exact: l.Exact,
		FirstFailedAt: l.FirstFailedAt.UTC(), LastFailedAt: l.LastFailedAt.UTC(), FailureCount: l.FailureCount, ReplayCount: l.ReplayCount,
	}
	if r, ok := priceevent.Explain(l.Code); ok {
		s.Meaning, s.Remedy = r.Meaning, r.Remedy
	}
	if l.Origin != nil {
		s.Topic, s.Partition, s.Offset = &l.Origin.Topic, &l.Origin.Partition, &l.Origin.Offset
	}
	return s
}

// LetterBody is a letter with its contents in an answer.
type LetterBody struct {
	Summary
	Value         *string           `json:"value" nullable:"true" doc:"null: the record has a null value"`
	ValueEncoding string            `json:"value_encoding" enum:"text,base64"`
	ValueBytes    int64             `json:"value_bytes,omitempty" doc:"Length of the whole value, present if value is only its beginning: the dead letter was cut, and the original is gone"`
	Key           *string           `json:"key" nullable:"true"`
	KeyEncoding   string            `json:"key_encoding" enum:"text,base64"`
	Headers       []headerBody      `json:"headers" doc:"Kafka headers in their order"`
	Attributes    map[string]string `json:"attributes" doc:"CloudEvent attributes as they were delivered"`
	ContentType   string            `json:"content_type,omitempty"`
	RecordedAt    *time.Time        `json:"recorded_at" nullable:"true" doc:"The record's timestamp"`
	Correction    int               `json:"correction" doc:"Greatest that the event or its replays carried"`
	Failures      []failureBody     `json:"failures" doc:"Oldest first"`
	Audit         []AuditBody       `json:"audit" doc:"Oldest first, the newest 1000"`
}

type headerBody struct {
	Name     string  `json:"name"`
	Value    *string `json:"value" nullable:"true" doc:"null: the header has a null value"`
	Encoding string  `json:"encoding" enum:"text,base64"`
}

type failureBody struct {
	Code     string    `json:"code"`
	Reason   string    `json:"reason"`
	Function string    `json:"function,omitempty"`
	FailedAt time.Time `json:"failed_at"`
}

// AuditBody is one change of a letter in an answer.
type AuditBody struct {
	At            time.Time       `json:"at"`
	Who           string          `json:"who"`
	Action        string          `json:"action"`
	Reason        string          `json:"reason,omitempty"`
	Before        json.RawMessage `json:"before"`
	After         json.RawMessage `json:"after"`
	Value         *string         `json:"value,omitempty" doc:"What an edited replay sent; the newest edits are shown, up to 2 MiB together"`
	ValueEncoding string          `json:"value_encoding,omitempty" enum:"text,base64"`
	ValueBytes    *int            `json:"value_bytes,omitempty" doc:"Size of what an edited replay sent"`
}

func bodyOf(l letter.Stored, failures []deadletter.Failure, trail []letter.AuditEntry) LetterBody {
	b := LetterBody{
		Summary: summaryOf(l), Headers: []headerBody{}, Attributes: l.Attributes,
		ContentType: l.ContentType, Correction: l.Correction, Failures: []failureBody{}, Audit: auditOf(trail),
	}
	b.Value, b.ValueEncoding = textOf(l.Value)
	b.Key, b.KeyEncoding = textOf(l.Key)
	if c := l.Cut(); c != nil {
		b.ValueBytes = c.Bytes
	}
	if l.RecordedAt != nil {
		at := l.RecordedAt.UTC()
		b.RecordedAt = &at
	}
	for _, h := range l.Headers {
		value, encoding := textOf(h.Value)
		b.Headers = append(b.Headers, headerBody{h.Name, value, encoding})
	}
	for _, f := range failures {
		b.Failures = append(b.Failures, failureBody{f.Code, f.Reason, f.Function, f.FailedAt.UTC()})
	}
	return b
}

func auditOf(trail []letter.AuditEntry) []AuditBody {
	out := make([]AuditBody, len(trail))
	for i, e := range trail {
		out[i] = AuditBody{At: e.At.UTC(), Who: e.Who, Action: string(e.Action), Reason: e.Reason, Before: e.Before, After: e.After, ValueBytes: e.Size}
		if e.Value != nil {
			out[i].Value, out[i].ValueEncoding = textOf(e.Value)
		}
	}
	return out
}

// textOf returns bytes for JSON. nil is null, with the encoding "text".
func textOf(b []byte) (value *string, encoding string) {
	if b == nil {
		return nil, "text"
	}
	text, encoding := letter.Encode(b)
	return &text, encoding
}

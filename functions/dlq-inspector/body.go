package main

import (
	"time"

	"github.com/google/uuid"

	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// Summary is a letter in a list: everything but what it holds. Exported, or the document would leave it out of [letterBody].
type Summary struct {
	ID            uuid.UUID `json:"id" format:"uuid"`
	Status        string    `json:"status" enum:"open,replaying,resolved,sent,discarded"`
	Code          string    `json:"code" doc:"Of the latest failure"`
	Reason        string    `json:"reason"`
	Meaning       string    `json:"meaning,omitempty" doc:"What the code says, if it is one of compute-ma's"`
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

func summaryOf(l stored) Summary {
	s := Summary{
		ID: l.ID, Status: l.Status, Code: l.Code, Reason: l.Reason, Fingerprint: l.Fingerprint, Symbol: l.Symbol, Exact: l.Exact,
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

// letterBody is a letter whole.
type letterBody struct {
	Summary
	Value         *string           `json:"value" nullable:"true" doc:"null: the record has a null value"`
	ValueEncoding string            `json:"value_encoding" enum:"text,base64"`
	ValueBytes    int64             `json:"value_bytes,omitempty" doc:"How long the whole value was, where this is only its beginning: the dead letter was cut, and the original is gone"`
	Key           *string           `json:"key" nullable:"true"`
	KeyEncoding   string            `json:"key_encoding" enum:"text,base64"`
	Headers       []headerBody      `json:"headers" doc:"Kafka headers in their order"`
	Attributes    map[string]string `json:"attributes" doc:"CloudEvent attributes as they were delivered"`
	ContentType   string            `json:"content_type,omitempty"`
	RecordedAt    *time.Time        `json:"recorded_at" nullable:"true" doc:"The record's timestamp"`
	Correction    int               `json:"correction" doc:"Greatest that the event or its replays carried"`
	Failures      []failureBody     `json:"failures" doc:"Oldest first"`
	Audit         []auditBody       `json:"audit" doc:"Oldest first, the newest 1000"`
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

// cut describes a value that came cut; nil if it is whole.
func (l stored) cut() *deadletter.Cut {
	if l.Exact {
		return nil
	}
	headers := make([]kafkaclient.Header, len(l.Headers))
	for i, h := range l.Headers {
		headers[i] = h.kafka()
	}
	return deadletter.CutOf(headers)
}

func bodyOf(l stored, failures []failure, trail []auditEntry) letterBody {
	b := letterBody{
		Summary: summaryOf(l), ValueEncoding: "text", KeyEncoding: "text", Headers: []headerBody{}, Attributes: l.Attributes,
		ContentType: l.ContentType, Correction: l.Correction, Failures: []failureBody{}, Audit: auditOf(trail),
	}
	if l.Value != nil {
		text, encoding := encode(l.Value)
		b.Value, b.ValueEncoding = &text, encoding
	}
	if c := l.cut(); c != nil {
		b.ValueBytes = c.Bytes
	}
	if l.Key != nil {
		text, encoding := encode(l.Key)
		b.Key, b.KeyEncoding = &text, encoding
	}
	if l.RecordedAt != nil {
		at := l.RecordedAt.UTC()
		b.RecordedAt = &at
	}
	for _, h := range l.Headers {
		one := headerBody{Name: h.Name, Encoding: "text"}
		if h.Value != nil {
			text, encoding := encode(h.Value)
			one.Value, one.Encoding = &text, encoding
		}
		b.Headers = append(b.Headers, one)
	}
	for _, f := range failures {
		b.Failures = append(b.Failures, failureBody{f.Code, f.Reason, f.Function, f.FailedAt.UTC()})
	}
	return b
}

package replay

import (
	"context"
	"slices"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

var errNotExact = fault.New(fault.Conflict, fault.CodeNotExact, "only an exact copy of a record can be sent, and only to one of our topics")

// sendable reports whether a letter is an exact copy of its record, and its topic one that copies may be sent to.
func (r *Replayer) sendable(exact bool, origin *kafkaclient.Place) bool {
	return exact && origin != nil && slices.Contains(r.Topics, origin.Topic)
}

// send writes a copy of the letter's record to its topic: key, value and headers. A letter whose record the topic can never accept is
// skipped: a second attempt would not help, and it must not hold up the letters behind it.
func (r *Replayer) send(ctx context.Context, l letter.Stored) letter.Verdict {
	err := r.Producer.Produce(ctx, kafkaclient.Record{Topic: l.Origin.Topic, Key: l.Key, Value: l.Value, Headers: letter.KafkaHeaders(l.Headers)})
	switch {
	case err == nil:
		return letter.Verdict{Outcome: letter.OutcomeSent}
	case fault.Permanent(err): // size is the only reason for which a topic refuses a record for good
		return letter.Verdict{Outcome: letter.OutcomeSkipped, Code: fault.CodeBodyTooLarge, Reason: detailOf(err)}
	}
	return noVerdict(fault.CodeOf(err), detailOf(err))
}

// detailOf returns what an operator may read of an error.
func detailOf(err error) string {
	if f, ok := fault.As(err); ok {
		return letter.ReasonText(f.Detail)
	}
	return "an error without a description"
}

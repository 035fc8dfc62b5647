package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
)

// maxHops limits how far a letter that circulated is followed back.
const maxHops = 20

// delivered returns the dead letter record of a delivery and its place. The record is read from Kafka; if the delivery does not name a
// place, or another record is there, it is made from the delivery itself.
func (in *Intake) delivered(ctx context.Context, d ingress.Delivery) (kafkaclient.Stored, *kafkaclient.Place, error) {
	at := deadletter.Delivered(d.Header)
	if at == nil || at.Topic != in.Topic {
		return recordOf(d), nil, nil
	}
	r, err := in.Records.Read(ctx, *at)
	switch {
	case err == nil && isDelivered(r, d):
		return r, at, nil
	case err != nil && fault.KindOf(err) != fault.NotFound:
		return kafkaclient.Stored{}, nil, err
	}
	return recordOf(d), at, nil
}

// isDelivered reports whether the delivery was made of the record.
func isDelivered(r kafkaclient.Stored, d ingress.Delivery) bool {
	if d.Cut() {
		return bytes.Equal(digest(r.Value), d.SHA256)
	}
	return letter.SameEvent(r, d.Body, d.Header.Get("Ce-Id"), d.Header.Get("Ce-Source"))
}

// recordOf makes a record from a delivery.
func recordOf(d ingress.Delivery) kafkaclient.Stored {
	r := kafkaclient.Stored{Record: kafkaclient.Record{Value: d.Body}}
	names := make([]string, 0, len(d.Header))
	for name := range d.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lower := strings.ToLower(name)
		if attribute, ok := strings.CutPrefix(lower, "ce-"); ok {
			r.Headers = append(r.Headers, kafkaclient.Header{Name: "ce_" + attribute, Value: []byte(d.Header.Get(name))})
		} else if lower == "content-type" {
			r.Headers = append(r.Headers, kafkaclient.Header{Name: lower, Value: []byte(d.Header.Get(name))})
		}
	}
	if d.Cut() {
		r.Headers = append(r.Headers, deadletter.NewCut(d.Size, d.SHA256).Headers()...)
	}
	return r
}

// follow returns the first dead letter record of r's event, its place, and that of the original. A letter that circulated through the
// dead letter sink names the dead letter topic as its origin, and there the same event: the first such record is the letter, and its
// place identifies the copies. A record that names the place of another event, or of a record that is gone, is the letter itself.
func (in *Intake) follow(ctx context.Context, r kafkaclient.Stored, at *kafkaclient.Place) (first kafkaclient.Stored, origin, firstAt *kafkaclient.Place, err error) {
	for range maxHops {
		from := letter.Origin(r.Headers)
		if from == nil || from.Topic != in.Topic {
			return r, from, at, nil
		}
		before, err := in.Records.Read(ctx, *from)
		switch {
		case err != nil && fault.KindOf(err) == fault.NotFound:
			return r, nil, from, nil
		case err != nil:
			return r, nil, nil, err
		case !letter.SameEvent(before, r.Value, letter.Text(r.Headers, "ce_id"), letter.Text(r.Headers, "ce_source")):
			return r, nil, at, nil
		}
		r, at = before, from
	}
	return r, nil, at, nil
}

// original copies key, value, headers and timestamp from the original record, if it is still at its place and has the value that was
// delivered: then the letter is exact. Topics that are not in the configuration are never read. Call release once the letter is stored.
func (in *Intake) original(ctx context.Context, l *letter.Letter) (release func(), err error) {
	release = func() {}
	if l.Origin == nil || !slices.Contains(in.Topics, l.Origin.Topic) {
		return release, nil
	}
	cut := deadletter.CutOf(l.Headers)
	if cut != nil {
		size := min(max(cut.Bytes, 1), originalMost)
		if err := in.originals.Acquire(ctx, size); err != nil {
			return release, fault.Wrap(err, fault.Unavailable, fault.CodeOverloaded, "too many large letters are in flight").After(time.Second)
		}
		release = func() { in.originals.Release(size) }
	}
	r, err := in.Records.Read(ctx, *l.Origin)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound:
		return release, nil
	case err != nil:
		return release, err
	}
	// A null value and an empty one are delivered alike, without a byte.
	if bytes.Equal(r.Value, l.Value) || isWhole(cut, r.Value) {
		l.Key, l.Value, l.Headers, l.RecordedAt, l.Exact = r.Key, r.Value, r.Headers, r.Timestamp, true
	}
	return release, nil
}

// isWhole reports whether value is the whole of a value that was cut.
func isWhole(c *deadletter.Cut, value []byte) bool {
	return c != nil && *c == deadletter.NewCut(int64(len(value)), digest(value))
}

func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

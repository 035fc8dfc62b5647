package main

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
)

// maxHops bounds how far a letter that circulated is followed back.
const maxHops = 20

type recordReader interface {
	Read(ctx context.Context, topic string, partition int32, offset int64) (kafkaclient.Stored, error)
}

type letterStore interface {
	save(ctx context.Context, l letter, f failure, at *place) error
}

// intake turns deliveries into letters.
type intake struct {
	store    letterStore
	records  recordReader
	dlqTopic string
	topics   []string // that originals may be read from
	now      func() time.Time
}

// receive stores the letter of a delivery. A delivery shows only attributes, so the dead letter record itself is read
// from Kafka first, then, where that says where it came from, the original. Errors are Unavailable: nothing that is
// wrong with a letter keeps it from being stored.
func (in *intake) receive(ctx context.Context, d ingress.Delivery) error {
	record, at, err := in.delivered(ctx, d)
	if err != nil {
		return err
	}
	from := in.follow(ctx, &record)
	if from.err != nil {
		return from.err
	}
	l := letter{
		Origin: from.origin, Key: record.Key, Value: record.Value, Headers: record.Headers,
		Attributes: attributes(record.Headers), ContentType: text(record.Headers, "content-type"), RecordedAt: record.Timestamp,
	}
	if err := in.original(ctx, &l); err != nil {
		return err
	}
	l.Symbol = symbolOf(l.Value, l.Attributes, l.Key)
	return in.store.save(ctx, l, why(record.Headers, in.failedAt(record)), at)
}

func (in *intake) failedAt(r kafkaclient.Stored) time.Time {
	if r.Timestamp.IsZero() {
		return in.now().UTC()
	}
	return r.Timestamp
}

// delivered gives the dead letter record of a delivery: read at its place, or, where the delivery shows none, made of
// the delivery itself.
func (in *intake) delivered(ctx context.Context, d ingress.Delivery) (kafkaclient.Stored, *place, error) {
	at := placeOf(d.Header)
	if at != nil && at.Topic == in.dlqTopic {
		r, err := in.records.Read(ctx, at.Topic, at.Partition, at.Offset)
		if err == nil && bytes.Equal(r.Value, d.Body) {
			return r, at, nil
		}
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return kafkaclient.Stored{}, nil, err
		}
	} else {
		at = nil
	}
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
	return r, at, nil
}

// placeOf reads a delivery's coordinates, as a KafkaSource or OpenFaaS' connector gives them.
func placeOf(h http.Header) *place {
	for _, names := range [][3]string{
		{"Ce-Kafkatopic", "Ce-Knativekafkapartition", "Ce-Knativekafkaoffset"}, {"X-Topic", "X-Kafka-Partition", "X-Kafka-Offset"},
	} {
		topic := h.Get(names[0])
		partition, err1 := strconv.ParseInt(h.Get(names[1]), 10, 32)
		offset, err2 := strconv.ParseInt(h.Get(names[2]), 10, 64)
		if topic != "" && err1 == nil && err2 == nil && partition >= 0 && offset >= 0 {
			return &place{topic, int32(partition), offset}
		}
	}
	return nil
}

type followed struct {
	origin *place
	err    error
}

// follow gives the place of the original. A letter that circulated through the dead letter sink names the dead letter
// topic as its origin: r becomes the record it was before, until one names another topic.
func (in *intake) follow(ctx context.Context, r *kafkaclient.Stored) followed {
	for range maxHops {
		from := origin(r.Headers)
		if from == nil || from.Topic != in.dlqTopic {
			return followed{origin: from}
		}
		before, err := in.records.Read(ctx, from.Topic, from.Partition, from.Offset)
		if fault.KindOf(err) == fault.NotFound && err != nil {
			return followed{}
		}
		if err != nil {
			return followed{err: err}
		}
		*r = before
	}
	return followed{}
}

// original takes over key, value, headers and timestamp of the original record if it is still at its place and has the
// delivered value: then the letter is exact. Topics that are not on the list are never read.
func (in *intake) original(ctx context.Context, l *letter) error {
	if l.Origin == nil || !slices.Contains(in.topics, l.Origin.Topic) {
		return nil
	}
	r, err := in.records.Read(ctx, l.Origin.Topic, l.Origin.Partition, l.Origin.Offset)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			return nil
		}
		return err
	}
	if !bytes.Equal(r.Value, l.Value) { // a null value and an empty one are both delivered without a byte
		return nil
	}
	l.Key, l.Value, l.Headers, l.RecordedAt, l.Exact = r.Key, r.Value, r.Headers, r.Timestamp, true
	return nil
}

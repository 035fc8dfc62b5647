package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"marketdata/shared/coalesce"
	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/problem"
)

// What one replica holds at most: beyond it deliveries wait, and are refused as Unavailable only after a while. The platform brings them
// again.
const (
	maxHops      = 20 // how far a letter that circulated is followed back
	saveBatch    = 100
	saveQueue    = 2_000
	saveTimeout  = 10 * time.Second // well below the 25 s that the platform gives a request
	roomWait     = 15 * time.Second
	bytesInHand  = maxBody // of bodies in hand at once: one letter may take all
	perLetter    = 4 << 10 // what a letter takes beside its body
	originalMost = 4 << 20 // of originals that are larger than what was delivered
)

type recordReader interface {
	Read(ctx context.Context, topic string, partition int32, offset int64) (kafkaclient.Stored, error)
}

type letterStore interface {
	save(ctx context.Context, all []arrival) ([]error, error)
}

// intake turns deliveries into letters. Letters in hand at the same time are stored in one transaction.
type intake struct {
	saves     *coalesce.Coalescer[arrival, error]
	records   recordReader
	dlqTopic  string
	topics    []string // that originals may be read from
	now       func() time.Time
	room      *semaphore.Weighted // bytes of deliveries
	originals *semaphore.Weighted // bytes of originals; taken while room is held, never the other way round
}

func newIntake(store letterStore, records recordReader, dlqTopic string, topics []string, now func() time.Time) *intake {
	return &intake{
		saves: coalesce.New(store.save, coalesce.Options{MaxBatch: saveBatch, MaxQueue: saveQueue, Timeout: saveTimeout, Split: spoilsBatch}), records: records,
		dlqTopic: dlqTopic, topics: topics, now: now, room: semaphore.NewWeighted(bytesInHand), originals: semaphore.NewWeighted(originalMost),
	}
}

// spoilsBatch reports an error that a single letter may have brought over the whole batch: SQLSTATE class 21 (cardinality violation),
// 22 (data exception), 23 (integrity constraint violation) and 54 (limits exceeded), and a panic.
func spoilsBatch(err error) bool {
	switch postgres.Class(err) {
	case "21", "22", "23", "54":
		return true
	}
	_, panicked := errors.AsType[*coalesce.PanicError](err)
	return panicked
}

// close stores what is in hand.
func (in *intake) close() { in.saves.Close() }

// admit lets deliveries in as long as there is room for their bodies: what is in memory is bounded, however large the letters are.
func (in *intake) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := r.ContentLength
		if body < 0 {
			body = bytesInHand
		}
		size := min(body+perLetter, bytesInHand)
		ctx, cancel := context.WithTimeout(r.Context(), roomWait)
		defer cancel()
		if err := in.room.Acquire(ctx, size); err != nil {
			problem.WriteEvent(w, r, fault.Wrap(err, fault.Unavailable, "overloaded", "too many letters are in hand").After(time.Second))
			return
		}
		defer in.room.Release(size)
		next.ServeHTTP(w, r)
	})
}

// receive stores the letter of a delivery. A delivery shows only attributes, so the dead letter record itself is read
// from Kafka first, then, where that says where it came from, the original. Errors are Unavailable: nothing that is
// wrong with a letter keeps it from being stored.
func (in *intake) receive(ctx context.Context, d ingress.Delivery) error {
	record, at, err := in.delivered(ctx, d)
	if err != nil {
		return err
	}
	record, origin, at, err := in.follow(ctx, record, at)
	if err != nil {
		return err
	}
	a := arrival{letter: letter{
		Origin: origin, Key: record.Key, Value: record.Value, Headers: record.Headers, RecordedAt: record.Timestamp,
		Attributes: attributes(record.Headers), ContentType: truncate(text(record.Headers, "content-type"), 1000),
	}, at: at, failure: failureOf(record.Headers, in.failedAt(record))}
	release, err := in.original(ctx, &a.letter)
	defer release()
	if err != nil {
		return err
	}
	a.complete()
	refused, err := in.saves.Do(ctx, a)
	if err = errors.Join(err, refused); err != nil {
		return fault.Wrap(err, fault.Unavailable, "storage_unavailable", "the letter could not be stored").After(time.Second)
	}
	return nil
}

// complete adds what follows from a letter's bytes.
func (l *letter) complete() {
	if l.Attributes["id"] == "" && isEnvelope(l.ContentType) {
		if all, ok := envelope(l.Value); ok {
			l.Attributes = all
		}
	}
	l.Symbol = symbolOf(l.Value, l.Attributes, l.Key)
	if !plausible(l.RecordedAt) {
		l.RecordedAt = time.Time{}
	}
}

func (in *intake) failedAt(r kafkaclient.Stored) time.Time {
	if plausible(r.Timestamp) {
		return r.Timestamp
	}
	return in.now().UTC()
}

// delivered gives the dead letter record of a delivery: read at its place, or, where the delivery shows none, made of
// the delivery itself.
func (in *intake) delivered(ctx context.Context, d ingress.Delivery) (kafkaclient.Stored, *place, error) {
	at := deadletter.Delivered(d.Header)
	if at == nil || at.Topic != in.dlqTopic {
		return ofDelivery(d), nil, nil
	}
	r, err := in.records.Read(ctx, at.Topic, at.Partition, at.Offset)
	switch {
	case err == nil && (d.Cut() && bytes.Equal(sha(r.Value), d.SHA256) || !d.Cut() && sameEvent(r, d.Body, d.Header.Get("Ce-Id"), d.Header.Get("Ce-Source"))):
		return r, at, nil
	case err != nil && fault.KindOf(err) != fault.NotFound:
		return kafkaclient.Stored{}, nil, err
	}
	return ofDelivery(d), at, nil
}

// ofDelivery makes a record of what a delivery shows.
func ofDelivery(d ingress.Delivery) kafkaclient.Stored {
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

// follow gives the dead letter record that r is a copy of, its place, and that of the original. A letter that circulated through the
// dead letter sink names the dead letter topic as its origin, and so a place there where the same event stands: the first such record is
// the letter, its copies are known by its place. One that names the place of another event, or one that is gone, is the letter itself.
func (in *intake) follow(ctx context.Context, r kafkaclient.Stored, at *place) (first kafkaclient.Stored, origin, firstAt *place, err error) {
	for range maxHops {
		from := deadletter.Origin(r.Headers)
		if from == nil || from.Topic != in.dlqTopic {
			return r, from, at, nil
		}
		before, err := in.records.Read(ctx, from.Topic, from.Partition, from.Offset)
		switch {
		case err != nil && fault.KindOf(err) == fault.NotFound:
			return r, nil, from, nil
		case err != nil:
			return r, nil, nil, err
		case !sameEvent(before, r.Value, text(r.Headers, "ce_id"), text(r.Headers, "ce_source")):
			return r, nil, at, nil
		}
		r, at = before, from
	}
	return r, nil, at, nil
}

// original takes over key, value, headers and timestamp of the original record if it is still at its place and has the
// delivered value: then the letter is exact. Topics that are not on the list are never read. release is to be called once the letter is
// stored.
func (in *intake) original(ctx context.Context, l *letter) (release func(), err error) {
	release = func() {}
	if l.Origin == nil || !slices.Contains(in.topics, l.Origin.Topic) {
		return release, nil
	}
	cut := deadletter.CutOf(l.Headers)
	if cut != nil {
		size := min(max(cut.Bytes, 1), originalMost)
		if err := in.originals.Acquire(ctx, size); err != nil {
			return release, fault.Wrap(err, fault.Unavailable, "overloaded", "too many large letters are in hand").After(time.Second)
		}
		release = func() { in.originals.Release(size) }
	}
	r, err := in.records.Read(ctx, l.Origin.Topic, l.Origin.Partition, l.Origin.Offset)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound:
		return release, nil
	case err != nil:
		return release, err
	}
	// A null value and an empty one are both delivered without a byte.
	if bytes.Equal(r.Value, l.Value) || isWhole(cut, r.Value) {
		l.Key, l.Value, l.Headers, l.RecordedAt, l.Exact = r.Key, r.Value, r.Headers, r.Timestamp, true
	}
	return release, nil
}

// isWhole reports whether value is the whole of a cut one.
func isWhole(c *deadletter.Cut, value []byte) bool {
	return c != nil && *c == deadletter.NewCut(int64(len(value)), sha(value))
}

func sha(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

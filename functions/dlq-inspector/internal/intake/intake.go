// Package intake turns deliveries of dead letter records into letters. Nothing that is wrong with a letter prevents it from being
// stored; if Kafka or the store is unavailable, the delivery is refused, and the platform redelivers it.
package intake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/coalesce"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/problem"
	"marketdata/shared/trace"
)

// Limits of one replica. Deliveries beyond them wait, and after a while they are refused as Unavailable.
const (
	saveBatch    = 500
	saveQueue    = 2_000
	saveTimeout  = 10 * time.Second // well below the 45 s that the platform gives a request
	roomWait     = 15 * time.Second
	bodyBytes    = letter.MaxRequestBytes // of bodies in flight; one letter may use all of it
	perLetter    = 4 << 10                // bytes that a letter needs beside its body
	shortBody    = 32 << 10               // bytes, of which a body of unknown length is read to see whether that is all
	originalMost = 4 << 20                // bytes of originals that are larger than what was delivered
)

// Records reads records of topics. Errors are NotFound if there is no record at the place, otherwise Unavailable. [kafkaclient.Reader]
// is one.
type Records interface {
	Read(ctx context.Context, at kafkaclient.Place) (kafkaclient.Stored, error)
}

// Store stores letters. [store.Store] is one.
type Store interface {
	// Save returns an error for each letter that must be delivered again.
	Save(ctx context.Context, all []letter.Arrival) ([]error, error)
}

// Config is what an Intake needs.
type Config struct {
	Store   Store
	Records Records
	Topic   string   // of dead letters
	Topics  []string // that originals may be read from
	Now     func() time.Time
}

// Intake stores letters. Letters in flight at the same time share a transaction. Safe for concurrent use.
type Intake struct {
	Config
	saves     *coalesce.Coalescer[arrival, error]
	room      *semaphore.Weighted // bytes of deliveries
	originals *semaphore.Weighted // bytes of originals; acquired while room is held, never the other way round
}

type arrival struct {
	letter letter.Arrival
	span   trace.Span
}

// New returns an Intake. Close it.
func New(c Config) *Intake {
	save := func(ctx context.Context, arrivals []arrival) (refused []error, err error) {
		ctx, span := trace.StartBatch(ctx, "save letters", arrivals, func(a *arrival) trace.Span { return a.span })
		defer func() { span.End(err) }()
		all := make([]letter.Arrival, len(arrivals))
		for i, a := range arrivals {
			all[i] = a.letter
		}
		return c.Store.Save(ctx, all)
	}
	return &Intake{
		Config: c, room: semaphore.NewWeighted(bodyBytes), originals: semaphore.NewWeighted(originalMost),
		saves: coalesce.New(save, coalesce.Options{MaxBatch: saveBatch, MaxQueue: saveQueue, Timeout: saveTimeout, Split: spoilsBatch}),
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

// Close stores the letters in flight, and refuses later ones.
func (in *Intake) Close() { in.saves.Close() }

// Admit calls next while there is room for the request's body, so that memory is bounded however large the letters are. A body of
// unknown length, as some proxies send every body (OpenFaaS' of-watchdog), takes the room of a short one if it is short, and all of it
// otherwise.
func (in *Intake) Admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), roomWait)
		defer cancel()
		known := r.ContentLength >= 0
		body := r.ContentLength
		if !known {
			body = shortBody
		}
		size := min(body+perLetter, bodyBytes)
		err := in.room.Acquire(ctx, size)
		if err == nil && !known && !isShort(r) {
			in.room.Release(size) // two that hold a part and wait for the rest would wait for each other
			size = bodyBytes
			err = in.room.Acquire(ctx, size)
		}
		if err != nil {
			problem.WriteEvent(w, r, fault.Wrap(err, fault.Unavailable, fault.CodeOverloaded, "too many letters are in flight").After(time.Second))
			return
		}
		defer in.room.Release(size)
		next.ServeHTTP(w, r)
	})
}

// isShort reads the beginning of a body, puts it back, and reports whether it was all.
func isShort(r *http.Request) bool {
	beginning := make([]byte, shortBody+1)
	n, err := io.ReadFull(r.Body, beginning)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(beginning[:n]), r.Body), r.Body}
	return err != nil
}

// Receive stores the letter of a delivery. A delivery has only attributes and a body, so the dead letter record is read from Kafka
// first, and then the original, if the record names its place. Errors are Unavailable.
func (in *Intake) Receive(ctx context.Context, d ingress.Delivery) error {
	record, at, err := in.delivered(ctx, d)
	if err != nil {
		return err
	}
	record, origin, at, err := in.follow(ctx, record, at)
	if err != nil {
		return err
	}
	a := letter.Arrival{Letter: letter.New(record), At: at, Failure: letter.FailureOf(record.Headers, in.failedAt(record))}
	a.Origin = origin
	release, err := in.original(ctx, &a.Letter)
	defer release()
	if err != nil {
		return err
	}
	a.Complete()
	refused, err := in.saves.Do(ctx, arrival{a, trace.Current(ctx)})
	if err = errors.Join(err, refused); err != nil {
		return fault.Wrap(err, fault.Unavailable, fault.CodeStorageUnavailable, "the letter could not be stored").After(time.Second)
	}
	return nil
}

// failedAt returns the time of a failure whose record does not say it.
func (in *Intake) failedAt(r kafkaclient.Stored) time.Time {
	if letter.Plausible(r.Timestamp) {
		return r.Timestamp
	}
	return in.Now().UTC()
}

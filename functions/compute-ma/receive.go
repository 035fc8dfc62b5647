package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/problem"
	"marketdata/shared/request"
)

type committer interface {
	Commit(ctx context.Context, o priceevent.Observation) (store.Effect, error)
}

type rehearser interface {
	Rehearse(ctx context.Context, o priceevent.Observation) (store.Effect, []series.Average, error)
}

type deadLetterWriter interface {
	Write(ctx context.Context, d deadletter.Letter) error
}

// receiver accepts price events.
type receiver struct {
	events      committer
	rehearsals  rehearser
	deadLetters deadLetterWriter
	maxBytes    int64 // of one event
	log         *slog.Logger
	now         func() time.Time
	metrics     metrics
}

// routes mounts the receiver. Nothing limits the rate of events.
func (h *receiver) routes(mux *http.ServeMux) {
	turns := ingress.Turns()
	mux.Handle("POST /{$}", ingress.Handler{MaxBytes: h.maxBytes, Handle: ingress.InTurn(turns, h.receive), Refuse: h.refuse})
	mux.HandleFunc("POST /dry-run", h.dryRun)
}

// receive handles one event. A nil error acknowledges it: it is committed, a duplicate, or dead-lettered.
func (h *receiver) receive(ctx context.Context, d ingress.Delivery) error {
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	o, err := h.decode(d)
	if err != nil {
		return h.refuse(ctx, d, err)
	}
	effect, err := h.commit(ctx, d, o)
	if err != nil {
		return h.refuse(ctx, d, err)
	}
	_, _, bar := market.ParseBarSeries(o.Provider)
	h.metrics.applied(effect, &o, bar, h.now())
	// The bars of a history are late or corrected by the thousand: in any order, and all again after a split.
	if !bar && (effect.Outcome == store.Corrected || effect.Late) {
		request.Note(ctx, slog.String("outcome", string(effect.Outcome)), slog.Bool("late", effect.Late))
	}
	return nil
}

// commit commits o. Where the platform has no retries, it makes a few brief ones.
func (h *receiver) commit(ctx context.Context, d ingress.Delivery, o priceevent.Observation) (store.Effect, error) {
	effect, err := h.events.Commit(ctx, o)
	if !d.StatusIgnored {
		return effect, err
	}
	for wait := 250 * time.Millisecond; err != nil && !fault.Permanent(err) && wait <= 2*time.Second; wait *= 2 {
		select {
		case <-ctx.Done():
			return store.Effect{}, err
		case <-time.After(wait):
		}
		effect, err = h.events.Commit(ctx, o)
	}
	return effect, err
}

// refuse ends a delivery that failed. An error that may pass is returned to the platform, which retries, unless it would lose the
// event in the end: it ignores the answer, or its dead letter sink cannot take a record of that size. Such an event, and one that can never
// succeed, is written to the dead letter topic, and acknowledged to the platform only after the broker has acknowledged the
// letter. A replay gets its verdict instead.
func (h *receiver) refuse(ctx context.Context, d ingress.Delivery, reason error) error {
	letter := deadletter.Letter{
		Header: d.Header, Body: d.Body, Size: d.Size, SHA256: d.SHA256, Err: reason, Function: "compute-ma", FailedAt: h.now(),
	}
	if !fault.Permanent(reason) && !d.StatusIgnored && (!d.FromTopic() || letter.FitsSink()) {
		h.metrics.retry.Inc()
		return reason
	}
	if isReplay(d) {
		h.metrics.replayRefused.Inc()
		return reason
	}
	if fault.CodeOf(reason) == fault.CodeBodyTooLarge && !d.FromTopic() {
		return reason // 413: the sender is told, and still has the event
	}
	if err := h.bury(ctx, d, letter); err != nil {
		// Whatever the error, the event must be delivered again: without its dead letter it would be lost.
		return fault.Wrap(err, fault.Unavailable, fault.CodeDeadLetterFailed, "the dead letter could not be written").After(time.Second)
	}
	h.metrics.deadLetter.Inc()
	h.metrics.deadLetters(fault.CodeOf(reason)).Inc()
	about := []any{"code", fault.CodeOf(reason), "err", reason, "request_id", request.ID(ctx)}
	if from := deadletter.Delivered(d.Header); from != nil {
		about = append(about, "topic", from.Topic, "partition", from.Partition, "offset", from.Offset)
	}
	h.log.WarnContext(ctx, "dead letter written", about...)
	return nil
}

// deadLetterTimeout is how long the broker may take; the answer must reach the platform within 45 s.
const deadLetterTimeout = 10 * time.Second

func (h *receiver) bury(ctx context.Context, d ingress.Delivery, letter deadletter.Letter) error {
	if d.StatusIgnored {
		ctx = context.WithoutCancel(ctx) // there is no redelivery: the letter is all that remains of the event
	}
	ctx, cancel := context.WithTimeout(ctx, deadLetterTimeout)
	defer cancel()
	return h.deadLetters.Write(ctx, letter)
}

// isReplay reports an event that dlq-inspector replays: it has a replayid and does not come from a Kafka topic.
func isReplay(d ingress.Delivery) bool { return d.Extension("replayid") != "" && !d.FromTopic() }

// eventTypes are the types of a price event: our own, and that of a KafkaSource for a record that is no CloudEvent.
var eventTypes = []string{priceevent.Type, "dev.knative.kafka.event"}

func (h *receiver) decode(d ingress.Delivery) (priceevent.Observation, error) {
	if !slices.Contains(eventTypes, d.Event.Type()) {
		return priceevent.Observation{}, fault.New(fault.Invalid, fault.CodeInvalidType, "event type is not %s", priceevent.Type)
	}
	correction, err := correctionOf(d)
	if err != nil {
		return priceevent.Observation{}, err
	}
	return priceevent.Decode(d.Event.Data(), correction, h.now())
}

// correctionOf reads the extension correction, an integer in the form that CloudEvents give it; 0 if absent.
func correctionOf(d ingress.Delivery) (int, error) {
	text, ok := d.Attribute("correction")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fault.New(fault.Invalid, fault.CodeInvalidSchema, "extension correction is not an integer of 0 or more")
	}
	return int(n), nil
}

// verdict is what POST / would have done with an event.
type verdict struct {
	Verdict  string             `json:"verdict"` // applied, duplicate, dead_letter or retry
	Status   int                `json:"status"`  // of the answer to a replay: 204, 422 or 503
	Effect   store.Outcome      `json:"effect,omitempty"`
	Late     bool               `json:"late,omitempty"`
	Code     string             `json:"code,omitempty"`
	Reason   string             `json:"reason,omitempty"`
	Averages []averages.Average `json:"averages,omitempty"` // as they would be written
}

// dryRun does everything that POST / would do with the event, rolls it back, and reports. It writes no dead letter.
func (h *receiver) dryRun(w http.ResponseWriter, r *http.Request) {
	if err := request.CheckOrigin(r); err != nil {
		problem.WriteEvent(w, r, err) // a rehearsal takes the same locks as the event
		return
	}
	d, err := ingress.Read(r, h.maxBytes)
	if err != nil && !fault.Permanent(err) {
		problem.WriteEvent(w, r, err)
		return
	}
	v := verdict{Verdict: "applied", Status: http.StatusNoContent}
	if err == nil {
		err = ingress.Guard(func() error { return h.rehearse(r.Context(), d, &v) })
	}
	if err != nil {
		v = verdict{Verdict: "retry", Status: problem.EventStatus(err), Code: fault.CodeOf(err)}
		if fault.Permanent(err) {
			v.Verdict = "dead_letter"
		}
		if f, ok := fault.As(err); ok {
			v.Reason = f.Detail
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error here means that the caller went away
}

func (h *receiver) rehearse(ctx context.Context, d ingress.Delivery, v *verdict) error {
	o, err := h.decode(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, store.CommitTimeout)
	defer cancel()
	effect, means, err := h.rehearsals.Rehearse(ctx, o)
	if err != nil {
		return postgres.Classify(err) // as POST / does, so that the verdict is the same
	}
	v.Effect, v.Late = effect.Outcome, effect.Late
	if effect.Outcome == store.Duplicate {
		v.Verdict = "duplicate"
	}
	for _, a := range means {
		v.Averages = append(v.Averages, averages.Describe(series.Key{Symbol: string(o.Symbol), Provider: o.Provider}, a))
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
)

type eventApplier interface {
	apply(ctx context.Context, o priceevent.Observation) (effect, error)
}

type dryRunner interface {
	dryRun(ctx context.Context, o priceevent.Observation) (effect, []series.Average, error)
}

type deadLetterWriter interface {
	Write(ctx context.Context, d kafkaclient.DeadLetter) error
}

type handler struct {
	events          eventApplier
	dryRuns         dryRunner
	reads           reader
	pages           pageKey
	histories       slots
	deadLetters     deadLetterWriter
	windows         []int
	defaultProvider string // of a query that names none
	maxBytes        int64  // of one event
	log             *slog.Logger
	now             func() time.Time
	metrics         metrics
}

// routes mounts events, which nothing limits, and queries behind limit.
func (h *handler) routes(srv *service.Service, limit service.Middleware) {
	srv.Mux.Handle("POST /{$}", ingress.Handler{MaxBytes: h.maxBytes, Handle: h.receive, Refuse: h.refuse})
	srv.Mux.HandleFunc("POST /dry-run", h.dryRun)
	op := func(id, path, summary string, errs ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"averages"},
			Errors: append([]int{400, 429, 500, 503}, errs...),
		}
	}
	service.Handle(srv, op("latest-average", "/averages/latest", "The newest moving average of a series", 404), h.latestAverage, limit)
	service.Handle(srv, op("average-history", "/averages/history", "Moving averages computed from the stored points"), h.averageHistory, limit)
	srv.Document(h.describe)
}

// describe says in the document what the library cannot know.
func (h *handler) describe(doc *huma.OpenAPI) {
	longest := market.LongestName
	for _, path := range []string{"/averages/latest", "/averages/history"} {
		symbol, provider := service.Parameter(doc, path, "symbol"), service.Parameter(doc, path, "provider")
		symbol.Pattern, symbol.MaxLength = market.SymbolPattern, &longest
		provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
	}
	window := service.Parameter(doc, "/averages/latest", "window")
	for _, w := range h.windows {
		window.Enum = append(window.Enum, w)
	}
}

// receive handles one event. 204 means: committed, a duplicate, or dead-lettered.
func (h *handler) receive(ctx context.Context, d ingress.Delivery) error {
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	o, err := h.decode(d)
	if err == nil {
		var did effect
		if did, err = h.apply(ctx, d, o); err == nil {
			h.metrics.applied(did)
			if did.outcome == corrected || did.late {
				service.Note(ctx, slog.String("outcome", did.outcome), slog.Bool("late", did.late))
			}
			return nil
		}
	}
	return h.refuse(ctx, d, err)
}

// apply commits o, with a few brief retries of its own where the platform has none.
func (h *handler) apply(ctx context.Context, d ingress.Delivery, o priceevent.Observation) (effect, error) {
	did, err := h.events.apply(ctx, o)
	if !ingress.IgnoresStatus(d.Header) {
		return did, err
	}
	for wait := 250 * time.Millisecond; err != nil && !fault.Permanent(err) && wait <= 2*time.Second; wait *= 2 {
		select {
		case <-ctx.Done():
			return effect{}, err
		case <-time.After(wait):
		}
		did, err = h.events.apply(ctx, o)
	}
	return did, err
}

// refuse ends a delivery that failed: trouble that may pass is given back to the platform; what can never succeed is
// written to the dead letter topic, acknowledged by the broker, and only then acknowledged to the platform. A replay
// wants its true verdict instead.
func (h *handler) refuse(ctx context.Context, d ingress.Delivery, reason error) error {
	transient := !fault.Permanent(reason)
	if transient && !ingress.IgnoresStatus(d.Header) {
		h.metrics.retry.Inc()
		return reason
	}
	if isReplay(d) {
		h.metrics.replayRefused.Inc()
		return reason
	}
	if fault.CodeOf(reason) == priceevent.CodeBodyTooLarge && !d.FromTopic() {
		return reason // 413: whoever sent it is told, and still has it
	}
	letter := kafkaclient.DeadLetter{
		Header: d.Header, Body: d.Body, Size: d.Size, SHA256: d.SHA256, Err: reason, Function: "compute-ma", FailedAt: h.now(),
	}
	if err := h.bury(ctx, d, letter); err != nil {
		// Whatever kept the letter from the topic, the event must come again: never lose it over its dead letter.
		return fault.Wrap(err, fault.Unavailable, "dead_letter_failed", "the dead letter could not be written").After(time.Second)
	}
	h.metrics.deadLetter.Inc()
	h.metrics.deadLetters(fault.CodeOf(reason)).Inc()
	from := letter.Origin()
	h.log.WarnContext(ctx, "dead letter written", "code", fault.CodeOf(reason), "err", reason, "request_id", service.RequestID(ctx),
		"topic", from.Topic, "partition", from.Partition, "offset", from.Offset)
	return nil
}

// deadLetterTimeout is how long the broker may take: after it the answer must still reach the platform within its 25 s.
const deadLetterTimeout = 10 * time.Second

func (h *handler) bury(ctx context.Context, d ingress.Delivery, letter kafkaclient.DeadLetter) error {
	if ingress.IgnoresStatus(d.Header) {
		ctx = context.WithoutCancel(ctx) // the connector does not come again: this is the event's last chance
	}
	ctx, cancel := context.WithTimeout(ctx, deadLetterTimeout)
	defer cancel()
	return h.deadLetters.Write(ctx, letter)
}

// isReplay reports an event that dlq-inspector delivers again: it has replayid and comes from no Kafka topic.
func isReplay(d ingress.Delivery) bool { return d.Extension("replayid") != "" && !d.FromTopic() }

// eventTypes are what a price event may arrive as: ours, or a plain Kafka record (KafkaSource's type for it).
var eventTypes = []string{priceevent.Type, "dev.knative.kafka.event"}

func (h *handler) decode(d ingress.Delivery) (priceevent.Observation, error) {
	if !slices.Contains(eventTypes, d.Event.Type()) {
		return priceevent.Observation{}, fault.New(fault.Invalid, priceevent.CodeInvalidType, "event type is not %s", priceevent.Type)
	}
	correction, err := correctionOf(d)
	if err != nil {
		return priceevent.Observation{}, err
	}
	return priceevent.Decode(d.Event.Data(), correction, h.now())
}

// correctionOf reads the extension correction: an integer as CloudEvents write one, 0 if absent.
func correctionOf(d ingress.Delivery) (int, error) {
	text, ok := d.Attribute("correction")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fault.New(fault.Invalid, priceevent.CodeInvalidSchema, "extension correction is not an integer of 0 or more")
	}
	return int(n), nil
}

// verdict is what POST / would have made of an event.
type verdict struct {
	Verdict  string        `json:"verdict"` // applied, duplicate, dead_letter or retry
	Status   int           `json:"status"`  // of the answer that a replay would get: 204, 422 or 503
	Effect   string        `json:"effect,omitempty"`
	Late     bool          `json:"late,omitempty"`
	Code     string        `json:"code,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Averages []averageBody `json:"averages,omitempty"` // as they would be
}

// dryRun does everything that POST / would do with the event, rolls it back, and tells. No dead letter is written.
func (h *handler) dryRun(w http.ResponseWriter, r *http.Request) {
	if err := service.CheckOrigin(r); err != nil {
		service.WriteEventProblem(w, r, err) // a rehearsal locks what the event would lock
		return
	}
	d, err := ingress.Read(r, h.maxBytes)
	if err != nil && !fault.Permanent(err) {
		service.WriteEventProblem(w, r, err)
		return
	}
	v := verdict{Verdict: "applied", Status: http.StatusNoContent}
	if err == nil {
		err = ingress.Guard(func() error { return h.rehearse(r.Context(), d, &v) })
	}
	if err != nil {
		v = verdict{Verdict: "retry", Status: service.EventStatus(err), Code: fault.CodeOf(err)}
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

func (h *handler) rehearse(ctx context.Context, d ingress.Delivery, v *verdict) error {
	o, err := h.decode(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	did, averages, err := h.dryRuns.dryRun(ctx, o)
	if err != nil {
		return postgres.Classify(err) // as POST / does: the verdict is the same
	}
	v.Effect, v.Late = did.outcome, did.late
	if did.outcome == duplicate {
		v.Verdict = duplicate
	}
	for _, a := range averages {
		v.Averages = append(v.Averages, bodyOf(string(o.Symbol), o.Provider, a))
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
)

type store interface {
	apply(ctx context.Context, o priceevent.Observation) (effect, error)
	latestAverage(ctx context.Context, symbol market.Symbol, provider string, window int) (latest, error)
}

type deadLetterWriter interface {
	Write(ctx context.Context, d kafkaclient.DeadLetter) error
}

type handler struct {
	store       store
	deadLetters deadLetterWriter
	windows     []int
	log         *slog.Logger
	now         func() time.Time
	metrics     metrics
}

func (h *handler) routes(srv *service.Service, maxEventBytes int64) {
	srv.Mux.Handle("POST /{$}", service.EventIngress{MaxBytes: maxEventBytes, Handle: h.receive, Refuse: h.refuse})
	service.Handle(srv.API, huma.Operation{
		OperationID: "latest-average", Method: http.MethodGet, Path: "/averages/latest", Tags: []string{"averages"},
		Summary: "The newest moving average of a series", Errors: []int{400, 404, 500, 503},
	}, h.latestAverage)
}

// receive handles one event. 204 means: committed, a duplicate, or dead-lettered.
func (h *handler) receive(ctx context.Context, d service.Delivery) error {
	o, err := h.decode(d)
	if err == nil {
		var did effect
		if did, err = h.apply(ctx, d, o); err == nil {
			h.metrics.events.WithLabelValues(string(did)).Inc()
			return nil
		}
	}
	return h.refuse(ctx, d, err)
}

// platformIgnoresStatus reports a delivery of the OpenFaaS connector, which acknowledges whatever is answered.
func platformIgnoresStatus(d service.Delivery) bool { return d.Header.Get("X-Topic") != "" }

// apply stores o, with a few brief retries of its own where the platform has none.
func (h *handler) apply(ctx context.Context, d service.Delivery, o priceevent.Observation) (effect, error) {
	did, err := h.store.apply(ctx, o)
	if !platformIgnoresStatus(d) {
		return did, err
	}
	for wait := 250 * time.Millisecond; err != nil && !fault.Permanent(err) && wait <= 2*time.Second; wait *= 2 {
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(wait):
		}
		did, err = h.store.apply(ctx, o)
	}
	return did, err
}

// refuse ends a delivery that failed: trouble that may pass is given back to the platform; what can never succeed is
// written to the dead letter topic, acknowledged by the broker, and only then acknowledged to the platform. A replay
// wants its true verdict instead.
func (h *handler) refuse(ctx context.Context, d service.Delivery, reason error) error {
	transient := !fault.Permanent(reason)
	if transient && !platformIgnoresStatus(d) {
		h.metrics.events.WithLabelValues("retry").Inc()
		return reason
	}
	if isReplay(d) {
		h.metrics.events.WithLabelValues("replay_refused").Inc()
		return reason
	}
	letter := kafkaclient.DeadLetter{Header: d.Header, Body: d.Body, Err: reason, Function: "compute-ma", FailedAt: h.now()}
	if err := h.deadLetters.Write(ctx, letter); err != nil {
		// Whatever kept the letter from the topic, the event must come again: never lose it over its dead letter.
		return fault.Wrap(err, fault.Unavailable, "dead_letter_failed", "the dead letter could not be written").After(time.Second)
	}
	h.metrics.events.WithLabelValues("dead_letter").Inc()
	h.metrics.deadLetters.WithLabelValues(fault.CodeOf(reason)).Inc()
	from := letter.Origin()
	h.log.WarnContext(ctx, "dead letter written", "code", fault.CodeOf(reason), "err", reason, "request_id", service.RequestID(ctx),
		"topic", from.Topic, "partition", from.Partition, "offset", from.Offset)
	return nil
}

// isReplay reports an event that dlq-inspector delivers again: it has replayid and comes from no Kafka topic.
func isReplay(d service.Delivery) bool {
	return d.Header.Get("Ce-Replayid") != "" && d.Header.Get("Ce-Knativekafkaoffset") == "" && !platformIgnoresStatus(d)
}

// eventTypes are what a price event may arrive as: ours, or a plain Kafka record (KafkaSource's type for it).
var eventTypes = []string{priceevent.Type, "dev.knative.kafka.event"}

func (h *handler) decode(d service.Delivery) (priceevent.Observation, error) {
	if !slices.Contains(eventTypes, d.Event.Type()) {
		return priceevent.Observation{}, fault.New(fault.Invalid, "invalid_type", "event type is not %s", priceevent.Type)
	}
	correction := 0
	if v, ok := d.Event.Extensions()["correction"]; ok {
		n, err := types.ToInteger(v)
		if err != nil || n < 0 {
			return priceevent.Observation{}, fault.New(fault.Invalid, "invalid_schema", "extension correction is not an integer of 0 or more")
		}
		correction = int(n)
	}
	return priceevent.Decode(d.Event.Data(), correction, h.now())
}

type averageQuery struct {
	Symbol   string `query:"symbol" required:"true" doc:"Instrument, such as AAPL"`
	Provider string `query:"provider" default:"yfinance" doc:"Provider of the series"`
	Window   int    `query:"window" default:"5" doc:"Points in the window; one of MA_WINDOWS"`
}

type averageAnswer struct{ Body averageBody }

type averageBody struct {
	Symbol     string         `json:"symbol" example:"AAPL"`
	Provider   string         `json:"provider" example:"yfinance"`
	Window     int            `json:"window" doc:"Points in the window" example:"5"`
	Average    service.Number `json:"average" doc:"Exact mean of the points used"`
	PointsUsed int            `json:"points_used" doc:"Fewer than window until the series has that many points"`
	Complete   bool           `json:"complete" doc:"Whether points_used equals window"`
	AsOf       time.Time      `json:"as_of" doc:"Observation time of the newest point used"`
	Oldest     time.Time      `json:"oldest" doc:"Observation time of the oldest point used"`
}

func (h *handler) latestAverage(ctx context.Context, in *averageQuery) (*averageAnswer, error) {
	symbol, err := market.ParseSymbol(in.Symbol)
	if err != nil {
		return nil, err
	}
	provider, err := market.ParseProvider(in.Provider)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(h.windows, in.Window) {
		return nil, fault.New(fault.Invalid, "invalid_parameter", "window must be one of %s", join(h.windows))
	}
	l, err := h.store.latestAverage(ctx, symbol, provider, in.Window)
	if err != nil {
		return nil, fmt.Errorf("latest average: %w", err)
	}
	return &averageAnswer{averageBody{
		Symbol: string(symbol), Provider: provider, Window: l.window, Average: service.Number(l.mean.String()),
		PointsUsed: l.pointsUsed, Complete: l.complete, AsOf: l.asOf.UTC(), Oldest: l.oldest.UTC(),
	}}, nil
}

func join(numbers []int) string {
	s := ""
	for i, n := range numbers {
		if i > 0 {
			s += ", "
		}
		s += strconv.Itoa(n)
	}
	return s
}

// metrics counts events by what became of them.
type metrics struct {
	events, deadLetters *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "compute_ma_events_total", Help: "Events by outcome.",
		}, []string{"outcome"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "compute_ma_dead_letters_total", Help: "Dead letters written, by code.",
		}, []string{"code"}),
	}
	r.MustRegister(m.events, m.deadLetters)
	return m
}

package main

import (
	"fmt"
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/metric"
	"marketdata/shared/priceevent"
)

// metrics count events by what became of them.
type metrics struct {
	inserted, corrected, duplicate   *vm.Counter
	deadLetter, retry, replayRefused *vm.Counter
	set                              *vm.Set     // has the dead letters, by code
	late                             *vm.Counter // inserted points that are older than their series' newest
	inFlight                         *vm.Gauge   // taken in and not answered yet
	batchEvents, batchTime           *vm.PrometheusHistogram
	observed, received               *vm.PrometheusHistogram // seconds from there to the commit
}

var help = []metric.Help{
	{Name: "marketdata_compute_ma_events_total", Text: "Events by outcome: inserted, corrected, duplicate, dead_letter, retry or replay_refused."},
	{Name: "marketdata_compute_ma_late_points_total", Text: "Points inserted that are older than the newest of their series."},
	{Name: "marketdata_compute_ma_events_in_flight", Text: "Events received and not yet answered."},
	{Name: "marketdata_compute_ma_batch_events", Text: "Events per transaction."},
	{Name: "marketdata_compute_ma_batch_duration_seconds", Text: "Duration of a transaction."},
	{Name: "marketdata_compute_ma_observed_delay_seconds", Text: "Time from a quote's own time to the commit of its averages."},
	{Name: "marketdata_compute_ma_received_delay_seconds", Text: "Time from a provider's response to the commit of its averages, for quotes and bars."},
	{Name: "marketdata_compute_ma_dead_letters_total", Text: "Dead letters written, by the code of the reason."},
}

func newMetrics(set *vm.Set) metrics {
	metric.Describe(help)
	events := func(outcome string) *vm.Counter {
		return set.NewCounter(fmt.Sprintf("marketdata_compute_ma_events_total{outcome=%q}", outcome))
	}
	m := metrics{
		inserted: events(string(store.Inserted)), corrected: events(string(store.Corrected)), duplicate: events(string(store.Duplicate)),
		deadLetter: events("dead_letter"), retry: events("retry"), replayRefused: events("replay_refused"),
		set:         set,
		late:        set.NewCounter("marketdata_compute_ma_late_points_total"),
		inFlight:    set.NewGauge("marketdata_compute_ma_events_in_flight", nil),
		batchEvents: set.NewPrometheusHistogramExt("marketdata_compute_ma_batch_events", []float64{1, 2, 5, 10, 20, 50, 100, 200}),
		batchTime:   set.NewPrometheusHistogramExt("marketdata_compute_ma_batch_duration_seconds", vm.ExponentialBuckets(.0005, 2, 15)),
		observed:    set.NewPrometheusHistogramExt("marketdata_compute_ma_observed_delay_seconds", delays),
		received:    set.NewPrometheusHistogramExt("marketdata_compute_ma_received_delay_seconds", delays),
	}
	for _, reason := range priceevent.Refusals { // an alert on an increase needs the zero before it
		m.deadLetters(reason.Code)
	}
	return m
}

// deadLetters counts what was written to the dead letter topic for that reason.
func (m metrics) deadLetters(code string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("marketdata_compute_ma_dead_letters_total{code=%q}", code))
}

// delays are buckets from what a commit takes to what an outage may.
var delays = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}

// applied counts an event that is committed now.
func (m metrics) applied(effect store.Effect, o *priceevent.Observation, isBar bool, now time.Time) {
	switch effect.Outcome {
	case store.Inserted:
		m.inserted.Inc()
	case store.Corrected:
		m.corrected.Inc()
	default:
		m.duplicate.Inc()
	}
	if effect.Late {
		m.late.Inc()
	}
	if effect.Outcome == store.Duplicate {
		return // the averages have it for longer
	}
	if o.RawResponseID.Version() == 7 { // of a producer that numbers responses as ours do, by time
		m.received.Update(now.Sub(time.Unix(o.RawResponseID.Time().UnixTime())).Seconds())
	}
	if !isBar { // bars of a history are as old as it is
		m.observed.Update(now.Sub(o.ObservedAt).Seconds())
	}
}

func (m metrics) batch(events int, took time.Duration) {
	m.batchEvents.Update(float64(events))
	m.batchTime.Update(took.Seconds())
}

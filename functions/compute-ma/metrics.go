package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"marketdata/shared/priceevent"
)

// metrics count events by what became of them.
type metrics struct {
	events      *prometheus.CounterVec // by outcome
	deadLetters *prometheus.CounterVec // by code
	late        prometheus.Counter
	inFlight    prometheus.Gauge
	batchEvents prometheus.Histogram
	batchTime   prometheus.Histogram

	inserted, corrected, duplicate prometheus.Counter // of events: looked up once
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "compute_ma_events_total", Help: "Events by outcome: inserted, corrected, duplicate, dead_letter, retry, replay_refused.",
		}, []string{"outcome"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "compute_ma_dead_letters_total", Help: "Dead letters written, by code.",
		}, []string{"code"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "compute_ma_late_points_total", Help: "Inserted points that are older than their series' newest.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "compute_ma_events_in_flight", Help: "Events taken in and not answered yet.",
		}),
		batchEvents: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "compute_ma_batch_events", Help: "Events in one transaction.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200},
		}),
		batchTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "compute_ma_batch_duration_seconds", Help: "Time of one transaction.", Buckets: prometheus.ExponentialBuckets(.0005, 2, 15),
		}),
	}
	m.inserted, m.corrected, m.duplicate = m.events.WithLabelValues(inserted), m.events.WithLabelValues(corrected), m.events.WithLabelValues(duplicate)
	for _, reason := range priceevent.Refusals { // an alert on an increase needs the zero before it
		m.deadLetters.WithLabelValues(reason.Code)
	}
	r.MustRegister(m.events, m.deadLetters, m.late, m.inFlight, m.batchEvents, m.batchTime)
	return m
}

func (m metrics) applied(did effect) {
	switch did.outcome {
	case inserted:
		m.inserted.Inc()
	case corrected:
		m.corrected.Inc()
	default:
		m.duplicate.Inc()
	}
	if did.late {
		m.late.Inc()
	}
}

func (m metrics) batch(events int, took time.Duration) {
	m.batchEvents.Observe(float64(events))
	m.batchTime.Observe(took.Seconds())
}

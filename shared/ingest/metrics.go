package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"marketdata/shared/fault"
)

type metrics struct {
	calls *prometheus.CounterVec
	// Vectors without labels: a process that never sweeps shows no outbox, rather than an empty one.
	rows, oldest *prometheus.GaugeVec
}

func newMetrics() metrics {
	return metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "upstream_calls_total", Help: "Calls of providers, by outcome: ok or the code of the problem.",
		}, []string{"provider", "outcome"}),
		rows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "outbox_rows", Help: "Events stored and not acknowledged by the broker, at the last sweep of this copy; counted up to 10000.",
		}, nil),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "outbox_oldest_seconds", Help: "Age of the oldest of them.",
		}, nil),
	}
}

func (m metrics) called(provider string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = fault.CodeOf(err)
	}
	m.calls.WithLabelValues(provider, outcome).Inc()
}

// Observe registers the ingester's metrics; call it once.
func (in *Ingester) Observe(r prometheus.Registerer) {
	r.MustRegister(in.metrics.calls, in.metrics.rows, in.metrics.oldest)
}

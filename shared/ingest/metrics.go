package ingest

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
)

// called counts a call to a provider by its outcome: ok or the error code.
func (in *Ingester) called(provider string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = fault.CodeOf(err)
	}
	in.metrics.GetOrCreateCounter(fmt.Sprintf("upstream_calls_total{provider=%q,outcome=%q}", provider, outcome)).Inc()
}

// swept sets the outbox gauges after a sweep: the number of events not yet acknowledged by the broker, counted up to 10000, and the
// age of the oldest. A process that never sweeps exposes no gauges, rather than those of an empty outbox.
func (in *Ingester) swept(rows int64, oldestSeconds float64) {
	in.metrics.GetOrCreateGauge("outbox_rows", nil).Set(float64(rows))
	in.metrics.GetOrCreateGauge("outbox_oldest_seconds", nil).Set(oldestSeconds)
}

// Observe adds the ingester's metrics to set. Call it once.
func (in *Ingester) Observe(set *metrics.Set) { set.RegisterMetricsWriter(in.metrics.WritePrometheus) }

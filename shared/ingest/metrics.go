package ingest

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
)

// called counts a call of a provider by its outcome: ok or the code of the problem.
func (in *Ingester) called(provider string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = fault.CodeOf(err)
	}
	in.metrics.GetOrCreateCounter(fmt.Sprintf("upstream_calls_total{provider=%q,outcome=%q}", provider, outcome)).Inc()
}

// swept notes the outbox after a sweep of this replica: events stored and not acknowledged by the broker, counted up to 10000,
// and the age of the oldest. A process that never sweeps shows no outbox, rather than an empty one.
func (in *Ingester) swept(rows int64, oldestSeconds float64) {
	in.metrics.GetOrCreateGauge("outbox_rows", nil).Set(float64(rows))
	in.metrics.GetOrCreateGauge("outbox_oldest_seconds", nil).Set(oldestSeconds)
}

// Observe shows the ingester's metrics with those of set; call it once.
func (in *Ingester) Observe(set *metrics.Set) { set.RegisterMetricsWriter(in.metrics.WritePrometheus) }

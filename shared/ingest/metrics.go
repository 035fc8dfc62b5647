package ingest

import (
	"fmt"
	"io"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
	"marketdata/shared/metric"
)

var help = []metric.Help{
	{Name: "marketdata_provider_calls_total", Text: "Calls to providers by outcome: ok, or the code of the error."},
	{Name: "marketdata_outbox_rows", Text: "Events that the broker had not acknowledged at the last sweep of this replica, counted to 10000."},
	{Name: "marketdata_outbox_oldest_age_seconds", Text: "Age of the oldest of these events."},
}

// outcomes are those that a call to a provider usually has.
var outcomes = []string{
	"ok", fault.CodeSymbolNotFound, fault.CodeProviderAuth, fault.CodeProviderMalformed, fault.CodeProviderRateLimited, fault.CodeProviderTimeout,
	fault.CodeProviderUnavailable,
}

// called counts a call to a provider by its outcome: ok or the error code.
func (in *Ingester) called(provider string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = fault.CodeOf(err)
	}
	in.calls(provider, outcome).Inc()
}

func (in *Ingester) calls(provider, outcome string) *metrics.Counter {
	return in.metrics.GetOrCreateCounter(fmt.Sprintf("marketdata_provider_calls_total{provider=%q,outcome=%q}", provider, outcome))
}

// swept sets the outbox gauges after a sweep: the number of events not yet acknowledged by the broker, counted up to 10000, and the
// age of the oldest. A process that never sweeps exposes no gauges, rather than those of an empty outbox.
func (in *Ingester) swept(rows int64, oldestSeconds float64) {
	in.metrics.GetOrCreateGauge("marketdata_outbox_rows", nil).Set(float64(rows))
	in.metrics.GetOrCreateGauge("marketdata_outbox_oldest_age_seconds", nil).Set(oldestSeconds)
}

// Observe adds the ingester's metrics to set. Call it once.
func (in *Ingester) Observe(set *metrics.Set) {
	metric.Describe(help)
	begin := sync.OnceFunc(func() { // not at the start, which they would delay
		for provider := range in.providers {
			for _, outcome := range outcomes {
				in.calls(provider, outcome) // an alert on an increase needs the zero before it
			}
		}
	})
	set.RegisterMetricsWriter(func(w io.Writer) {
		begin()
		in.metrics.WritePrometheus(w)
	})
}

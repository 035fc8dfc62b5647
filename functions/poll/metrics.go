package main

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"
)

type metrics struct {
	runs  *vm.Counter // recorded
	swept *vm.Counter // events published by the sweep
	set   *vm.Set
}

func newMetrics(set *vm.Set) metrics {
	return metrics{set.NewCounter("poll_runs_total"), set.NewCounter("outbox_swept_total"), set}
}

// fetches counts symbols of due jobs by outcome: ok, the code of the problem, or out_of_time.
func (m metrics) fetches(provider, outcome string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("poll_fetches_total{provider=%q,outcome=%q}", provider, outcome))
}

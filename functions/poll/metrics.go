package main

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/poll/internal/jobs"
)

type metrics struct {
	runs      *vm.Counter // recorded
	published *vm.Counter // events, by the sweep
	set       *vm.Set     // has the fetches
}

func newMetrics(set *vm.Set) metrics {
	return metrics{runs: set.NewCounter("poll_runs_total"), published: set.NewCounter("outbox_swept_total"), set: set}
}

func (m metrics) recorded(runs int) { m.runs.Add(runs) }

func (m metrics) swept(events int) { m.published.Add(events) }

// fetched counts a symbol of due jobs by its outcome.
func (m metrics) fetched(provider string, o jobs.Outcome) {
	m.set.GetOrCreateCounter(fmt.Sprintf("poll_fetches_total{provider=%q,outcome=%q}", provider, o)).Inc()
}

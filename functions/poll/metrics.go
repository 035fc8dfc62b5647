package main

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/poll/internal/jobs"
)

type metrics struct {
	runs      *vm.Counter // recorded
	published *vm.Counter // events, by the sweep
	bars      *vm.Counter // stored
	behind    *vm.Gauge   // series of bars that should have been asked for
	set       *vm.Set     // has the fetches
}

func newMetrics(set *vm.Set) metrics {
	return metrics{
		runs: set.NewCounter("poll_runs_total"), published: set.NewCounter("outbox_swept_total"), bars: set.NewCounter("poll_bars_total"),
		behind: set.NewGauge("poll_series_behind", nil), set: set,
	}
}

func (m metrics) recorded(runs int) { m.runs.Add(runs) }

func (m metrics) swept(events int) { m.published.Add(events) }

// fetched counts a symbol of due jobs by its outcome.
func (m metrics) fetched(provider string, o jobs.Outcome) {
	m.set.GetOrCreateCounter(fmt.Sprintf("poll_fetches_total{provider=%q,outcome=%q}", provider, o)).Inc()
}

// answered counts an answer with bars by its outcome.
func (m metrics) answered(provider, outcome string, bars int) {
	m.set.GetOrCreateCounter(fmt.Sprintf("poll_history_calls_total{provider=%q,outcome=%q}", provider, outcome)).Inc()
	m.bars.Add(bars)
}

func (m metrics) seriesBehind(series int) { m.behind.Set(float64(series)) }

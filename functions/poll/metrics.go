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
	paused    *vm.Gauge   // jobs, by their failures
	set       *vm.Set     // has the fetches
}

func newMetrics(set *vm.Set) metrics {
	return metrics{
		runs: set.NewCounter("poll_runs_total"), published: set.NewCounter("outbox_swept_total"), bars: set.NewCounter("poll_bars_total"),
		behind: set.NewGauge("poll_series_behind", nil), paused: set.NewGauge("poll_jobs_paused", nil), set: set,
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

// troubles returns a function that reports which of the providers are backed off, and how many jobs were paused for their failures.
func (m metrics) troubles(providers []string) func(off map[string]jobs.Backoff, paused int) {
	return func(off map[string]jobs.Backoff, paused int) {
		for _, provider := range providers {
			value := 0.0
			if _, ok := off[provider]; ok {
				value = 1
			}
			m.set.GetOrCreateGauge(fmt.Sprintf("poll_provider_backed_off{provider=%q}", provider), nil).Set(value)
		}
		m.paused.Set(float64(paused))
	}
}

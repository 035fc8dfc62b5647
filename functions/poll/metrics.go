package main

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/metric"
)

type metrics struct {
	runs      *vm.Counter // recorded
	published *vm.Counter // events, by the sweep
	bars      *vm.Counter // stored
	behind    *vm.Gauge   // series of bars that should have been asked for
	paused    *vm.Gauge   // jobs, by their failures
	set       *vm.Set     // has what is by provider
}

var help = []metric.Help{
	{Name: "marketdata_poll_runs_total", Text: "Runs of polling jobs recorded."},
	{Name: "marketdata_outbox_swept_total", Text: "Events that the sweep of the outbox published."},
	{Name: "marketdata_poll_bars_total", Text: "Bars stored."},
	{Name: "marketdata_poll_series_behind", Text: "Series of bars that should have been asked for a minute ago or longer."},
	{Name: "marketdata_poll_jobs_paused", Text: "Polling jobs paused because every symbol failed for a day."},
	{Name: "marketdata_poll_fetches_total", Text: "Symbols of due polling jobs by outcome: ok, out_of_time, or the code of the error."},
	{Name: "marketdata_poll_history_calls_total", Text: "Calls for histories by outcome: ok, split (closes are in other shares), or the code of the error."},
	{Name: "marketdata_poll_provider_backed_off", Text: "1 while the provider does not answer and polling jobs leave it alone, otherwise 0."},
}

// newMetrics returns the metrics of a function that calls the providers. Those that alerts and dashboards watch exist from the start.
func newMetrics(set *vm.Set, providers []string) metrics {
	metric.Describe(help)
	m := metrics{
		runs: set.NewCounter("marketdata_poll_runs_total"), published: set.NewCounter("marketdata_outbox_swept_total"), bars: set.NewCounter("marketdata_poll_bars_total"),
		behind: set.NewGauge("marketdata_poll_series_behind", nil), paused: set.NewGauge("marketdata_poll_jobs_paused", nil), set: set,
	}
	for _, provider := range providers {
		m.fetches(provider, jobs.OK)
		m.histories(provider, "ok")
		m.histories(provider, "split")
		m.backedOff(provider)
	}
	return m
}

func (m metrics) recorded(runs int) { m.runs.Add(runs) }

func (m metrics) swept(events int) { m.published.Add(events) }

// fetched counts a symbol of due jobs by its outcome.
func (m metrics) fetched(provider string, o jobs.Outcome) {
	m.fetches(provider, o).Inc()
}

func (m metrics) fetches(provider string, o jobs.Outcome) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("marketdata_poll_fetches_total{provider=%q,outcome=%q}", provider, o))
}

// answered counts an answer with bars by its outcome.
func (m metrics) answered(provider, outcome string, bars int) {
	m.histories(provider, outcome).Inc()
	m.bars.Add(bars)
}

func (m metrics) histories(provider, outcome string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("marketdata_poll_history_calls_total{provider=%q,outcome=%q}", provider, outcome))
}

func (m metrics) backedOff(provider string) *vm.Gauge {
	return m.set.GetOrCreateGauge(fmt.Sprintf("marketdata_poll_provider_backed_off{provider=%q}", provider), nil)
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
			m.backedOff(provider).Set(value)
		}
		m.paused.Set(float64(paused))
	}
}

package replay

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/metric"
)

// Metrics counts replays.
type Metrics struct{ set *vm.Set }

// NewMetrics returns Metrics whose counters are in set.
func NewMetrics(set *vm.Set) Metrics {
	metric.Describe(help)
	m := Metrics{set}
	for _, status := range []string{
		string(letter.Resolved), string(letter.Sent), string(letter.Discarded), string(letter.Open), string(letter.OutcomeRefused),
		string(letter.OutcomeSkipped), string(letter.OutcomeNone), "error",
	} {
		m.counter(status)
	}
	m.pauses()
	return m
}

var help = []metric.Help{
	{Name: "marketdata_dead_letter_replays_total", Text: "Letters replayed, by their status afterwards, or by the outcome of a bulk replay."},
	{Name: "marketdata_dead_letter_replay_pauses_total", Text: "Times that a bulk replay paused after an error."},
}

// Replayed counts replays of one letter by its status afterwards.
func (m Metrics) Replayed(s letter.Status) { m.counter(string(s)).Inc() }

// Failed counts replays of one letter that ended with an error.
func (m Metrics) Failed() { m.counter("error").Inc() }

// settled counts the outcomes of a bulk replay.
func (m Metrics) settled(outcomes map[letter.Outcome]int64) {
	for outcome, n := range outcomes {
		m.counter(string(outcome)).Add(int(n))
	}
}

// paused counts a bulk replay that pauses after an error.
func (m Metrics) paused() { m.pauses().Inc() }

func (m Metrics) pauses() *vm.Counter {
	return m.set.GetOrCreateCounter("marketdata_dead_letter_replay_pauses_total")
}

func (m Metrics) counter(status string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("marketdata_dead_letter_replays_total{status=%q}", status))
}

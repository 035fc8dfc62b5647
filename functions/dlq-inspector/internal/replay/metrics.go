package replay

import (
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/dlq-inspector/internal/letter"
)

// Metrics counts replays.
type Metrics struct{ set *vm.Set }

// NewMetrics returns Metrics whose counters are in set.
func NewMetrics(set *vm.Set) Metrics { return Metrics{set} }

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

func (m Metrics) counter(status string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("dead_letter_replays_total{status=%q}", status))
}

package kafkasource

import (
	"fmt"
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/shared/metric"
)

// States of a source.
const (
	Starting   = "starting"    // it has no partitions yet
	Running    = "running"     // it delivers, or waits for records
	Paused     = "paused"      // the sink takes less than the topic has
	BackingOff = "backing_off" // at least one delivery failed and waits for its next attempt
)

// States lists all states of a source.
var States = []string{Starting, Running, Paused, BackingOff}

// metrics of a source. Its consumers share them.
type metrics struct {
	delivered, retried, deadLettered, lost *vm.Counter
	delay                                  *vm.PrometheusHistogram
}

var help = []metric.Help{
	{Name: "marketdata_source_deliveries_total", Text: "Deliveries by outcome: delivered, dead_letter or lost; and retry for each attempt that is repeated."},
	{Name: "marketdata_source_delivery_delay_seconds", Text: "Time from a record's own time until its delivery ended."},
}

func newMetrics(set *vm.Set, source string) metrics {
	metric.Describe(help)
	outcome := func(name string) *vm.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("marketdata_source_deliveries_total{source=%q,outcome=%q}", source, name))
	}
	return metrics{
		delivered: outcome("delivered"), retried: outcome("retry"), deadLettered: outcome("dead_letter"), lost: outcome("lost"),
		delay: set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("marketdata_source_delivery_delay_seconds{source=%q}", source),
			[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}),
	}
}

// State returns the state of the source.
func (s *Source) State() string {
	select {
	case <-s.ready:
	default:
		return Starting
	}
	switch {
	case s.sender.waits.Load() > 0:
		return BackingOff
	case s.isPaused.Load():
		return Paused
	}
	return Running
}

// Lag returns the number of records that are not done, by topic, as far as it knows from the broker's last answers.
func (s *Source) Lag() map[string]int64 {
	lag := map[string]int64{}
	for _, topic := range s.spec.Topics {
		lag[topic] = 0
	}
	s.offsets.mu.Lock()
	for p, g := range s.offsets.parts {
		lag[p.topic] += int64(len(g.pending))
	}
	s.offsets.mu.Unlock()
	_, next := s.offsets.status(time.Now())
	for p, offset := range next {
		if _, end, err := s.consumer.GetWatermarkOffsets(p.topic, p.id); err == nil {
			lag[p.topic] += max(end-offset, 0)
		}
	}
	return lag
}

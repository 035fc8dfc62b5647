package sources

import (
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/local/kafkasource"
	"marketdata/shared/metric"
)

var help = []metric.Help{
	{Name: "marketdata_source_lag_records", Text: "Records of a topic that a source has not delivered yet."},
	{Name: "marketdata_source_consumers", Text: "Consumers of a source by state: starting, running, paused or backing_off."},
}

// writeMetrics writes how the KafkaSources are. Consumers of one source are added up.
func (s *Sources) writeMetrics(w io.Writer) {
	lags, states := map[string]int64{}, map[string]int64{}
	for _, k := range s.kafka {
		for topic, records := range k.Lag() {
			lags[fmt.Sprintf("marketdata_source_lag_records{source=%q,topic=%q,group=%q}", k.name, topic, k.group)] += records
		}
		for _, state := range kafkasource.States {
			states[fmt.Sprintf("marketdata_source_consumers{source=%q,state=%q}", k.name, state)] += 0
		}
		states[fmt.Sprintf("marketdata_source_consumers{source=%q,state=%q}", k.name, k.State())]++
	}
	for _, values := range []map[string]int64{lags, states} {
		for series, n := range values {
			metrics.WriteGaugeFloat64(w, series, float64(n))
		}
	}
}

package stream

import vm "github.com/VictoriaMetrics/metrics"

type metrics struct {
	clients                  *vm.Gauge
	states, refused, stalled *vm.Counter
	reads                    *vm.PrometheusHistogram // seconds
}

func newMetrics(set *vm.Set) metrics {
	return metrics{
		clients: set.NewGauge("compute_ma_stream_clients", nil),
		states:  set.NewCounter("compute_ma_stream_states_total"),
		refused: set.NewCounter("compute_ma_stream_refused_total"),
		stalled: set.NewCounter("compute_ma_stream_stalled_total"),
		reads:   set.NewPrometheusHistogramExt("compute_ma_stream_read_duration_seconds", vm.ExponentialBuckets(.0005, 2, 14)),
	}
}

package stream

import (
	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/shared/metric"
)

type metrics struct {
	clients                  *vm.Gauge
	states, refused, stalled *vm.Counter
	reads                    *vm.PrometheusHistogram // seconds
}

var help = []metric.Help{
	{Name: "marketdata_compute_ma_stream_clients", Text: "Clients of the stream."},
	{Name: "marketdata_compute_ma_stream_states_total", Text: "States sent to clients of the stream."},
	{Name: "marketdata_compute_ma_stream_refused_total", Text: "Clients refused because of STREAM_MAX_CLIENTS."},
	{Name: "marketdata_compute_ma_stream_stalled_total", Text: "Clients disconnected because they did not read."},
	{Name: "marketdata_compute_ma_stream_read_duration_seconds", Text: "Duration of the query for changed states."},
}

func newMetrics(set *vm.Set) metrics {
	metric.Describe(help)
	return metrics{
		clients: set.NewGauge("marketdata_compute_ma_stream_clients", nil),
		states:  set.NewCounter("marketdata_compute_ma_stream_states_total"),
		refused: set.NewCounter("marketdata_compute_ma_stream_refused_total"),
		stalled: set.NewCounter("marketdata_compute_ma_stream_stalled_total"),
		reads:   set.NewPrometheusHistogramExt("marketdata_compute_ma_stream_read_duration_seconds", vm.ExponentialBuckets(.0005, 2, 14)),
	}
}

package metric_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/metric"
	"marketdata/shared/testenv/scrape"
)

func TestFamiliesHaveHelpAndAreWrittenOnce(t *testing.T) {
	t.Parallel()
	metric.Describe([]metric.Help{{"test_things_total", "Things."}, {"test_size_bytes", "Size."}})
	set, other := metrics.NewSet(), metrics.NewSet()
	set.NewCounter(`test_things_total{kind="a"}`).Add(2)
	set.NewGauge("test_size_bytes", func() float64 { return 7 })
	other.NewCounter(`test_things_total{kind="b"}`).Inc()
	set.RegisterMetricsWriter(other.WritePrometheus)
	var out bytes.Buffer
	require.NoError(t, metric.Write(&out, set))
	text := out.String()
	require.Contains(t, text, "# HELP test_size_bytes Size.\n# TYPE test_size_bytes gauge\ntest_size_bytes 7\n"+
		"# HELP test_things_total Things.\n# TYPE test_things_total counter\ntest_things_total{kind=\"a\"} 2\ntest_things_total{kind=\"b\"} 1\n")
	require.Regexp(t, `marketdata_build_info\{version="unknown",revision="unknown",goversion="go1\.[^"]+"\} 1\n`, text)
	require.Contains(t, text, "# HELP go_goroutines Goroutines that exist.\n# TYPE go_goroutines gauge\n")
	require.NotContains(t, text, "process_io_", "not one of Prometheus' own")
	values := scrape.Values(t, func(w io.Writer) { _, _ = w.Write(out.Bytes()) })
	require.Positive(t, values["process_resident_memory_bytes"])
}

func BenchmarkWrite(b *testing.B) {
	set := metrics.NewSet()
	for b.Loop() {
		require.NoError(b, metric.Write(io.Discard, set))
	}
}

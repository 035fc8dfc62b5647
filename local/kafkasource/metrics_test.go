package kafkasource

import (
	"context"
	"log/slog"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/scrape"
)

func TestDeliveriesAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statuses, dead []int // dead: of the dead letter sink; nil: there is none
		want           map[string]float64
	}{
		"delivered":                     {[]int{204}, nil, map[string]float64{"delivered": 1}},
		"delivered at the second try":   {[]int{503, 204}, nil, map[string]float64{"delivered": 1, "retry": 1}},
		"a dead letter":                 {[]int{422}, []int{202}, map[string]float64{"dead_letter": 1}},
		"retries are used up":           {[]int{503}, []int{202}, map[string]float64{"dead_letter": 1, "retry": 1}},
		"no dead letter sink":           {[]int{422}, nil, map[string]float64{"lost": 1}},
		"refused by a dead letter sink": {[]int{422}, []int{400}, map[string]float64{"lost": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := vm.NewSet()
			s := newSender("ns", slog.New(slog.DiscardHandler), newMetrics(set, "events"))
			s.sleep = func(context.Context, time.Duration) error {
				require.EqualValues(t, 1, s.waits.Load(), "the source backs off")
				return nil
			}
			d := Delivery{Retry: 1, Timeout: 5 * time.Second}
			if c.dead != nil {
				d.DeadLetterSink = (&sink{statuses: c.dead}).open(t)
			}
			require.NoError(t, s.deliver(t.Context(), ev, (&sink{statuses: c.statuses}).open(t), d))
			require.Zero(t, s.waits.Load())
			values := scrape.Values(t, set.WritePrometheus)
			for _, outcome := range []string{"delivered", "retry", "dead_letter", "lost"} {
				require.InDelta(t, c.want[outcome], values[`marketdata_source_deliveries_total{source="events",outcome="`+outcome+`"}`], 0, outcome)
			}
		})
	}
}

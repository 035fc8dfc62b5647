package main

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/fault"
)

func TestOutcomesShowInTheMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const recent = "018e5bbb-7e30-7000-8000-000000000001" // of two seconds ago
	quote := strings.Replace(good, "0190f5d8-0000-7000-8000-000000000001", recent, 1)
	for _, effect := range []store.Effect{
		{Outcome: store.Inserted}, {Outcome: store.Inserted, Late: true}, {Outcome: store.Corrected}, {Outcome: store.Duplicate}, {Outcome: store.Duplicate},
	} {
		b.store.effect = effect
		require.Equal(t, 204, b.post(quote, ce()...))
	}
	b.store.effect = store.Effect{Outcome: store.Inserted}
	for _, other := range []string{strings.Replace(quote, "yfinance", "yfinance-1d", 1), strings.Replace(quote, recent, uuid.NewString(), 1)} {
		require.Equal(t, 204, b.post(other, ce()...))
	}
	require.Equal(t, 204, b.post("junk", ce()...))
	b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "x")}
	require.Equal(t, 503, b.post(good, ce()...))
	text := b.get("/metrics").Body.String()
	for _, line := range []string{
		`marketdata_compute_ma_events_total{outcome="inserted"} 4`, `marketdata_compute_ma_events_total{outcome="corrected"} 1`,
		`marketdata_compute_ma_events_total{outcome="duplicate"} 2`, `marketdata_compute_ma_events_total{outcome="dead_letter"} 1`,
		`marketdata_compute_ma_events_total{outcome="retry"} 1`, `marketdata_compute_ma_late_points_total 1`,
		`marketdata_compute_ma_received_delay_seconds_bucket{le="1"} 0`, `marketdata_compute_ma_received_delay_seconds_bucket{le="2.5"} 4`,
		`marketdata_compute_ma_observed_delay_seconds_bucket{le="3600"} 0`, `marketdata_compute_ma_observed_delay_seconds_bucket{le="14400"} 4`,
		`marketdata_compute_ma_dead_letters_total{code="undecodable"} 1`, `marketdata_compute_ma_dead_letters_total{code="no_data"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
}

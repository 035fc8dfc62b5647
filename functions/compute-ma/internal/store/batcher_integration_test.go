//go:build integration

package store

import (
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// A lone event is not kept waiting for company.
func BenchmarkLoneEvent(b *testing.B) {
	s := New(testenv.Postgres(b), []int{5, 20, 50})
	events := NewBatcher(s, func(int, time.Duration) {})
	b.Cleanup(events.Close)
	tick := 0
	price := market.NewPrice(decimal.New(15025, -2))
	next := func() priceevent.Observation {
		tick++
		return model.Observation("LONE", model.Instant.Add(time.Duration(tick)*time.Second), price)
	}
	b.Run("coalesced", func(b *testing.B) {
		for b.Loop() {
			_, err := events.Commit(b.Context(), next())
			require.NoError(b, err)
		}
	})
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Apply(b.Context(), []priceevent.Observation{next()})
			require.NoError(b, err)
		}
	})
}

//go:build integration

package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

func TestEffectsOfOneBatch(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5})
	p := model.Prices(t, "1", "2")
	first := model.Observation("A", model.Instant.Add(time.Hour), p[0])
	better, same, other := first, first, model.Observation("B", model.Instant, p[0])
	better.Correction = 1
	better.Price = p[1]
	late := model.Observation("A", model.Instant, p[0])
	effects, err := s.Apply(t.Context(), []priceevent.Observation{first, other, same})
	require.NoError(t, err)
	require.ElementsMatch(t, []Outcome{Inserted, Duplicate}, []Outcome{effects[0].Outcome, effects[2].Outcome}, "one of two equals")
	require.Equal(t, Effect{Outcome: Inserted}, effects[1])
	effects, err = s.Apply(t.Context(), []priceevent.Observation{late, first, better})
	require.NoError(t, err)
	require.Equal(t, []Effect{{Outcome: Inserted, Late: true}, {Outcome: Duplicate}, {Outcome: Corrected}}, effects)
	effects, err = s.Apply(t.Context(), []priceevent.Observation{better, late})
	require.NoError(t, err)
	require.Equal(t, []Effect{{Outcome: Duplicate}, {Outcome: Duplicate}}, effects)
}

// Whatever points of a batch are new, each has its own outcome: points differ in one of symbol, provider and time alone.
func TestOutcomesAreThoseOfTheirPoints(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5})
	price := model.Prices(t, "1")[0]
	rng := rand.New(rand.NewPCG(8, 9))
	for round := range 20 {
		var all, stored []priceevent.Observation
		var want []Outcome
		for i := range 8 {
			o := model.Observation(fmt.Sprintf("R%d-%d", round, i&1), model.Instant.Add(time.Duration(i>>1&1)*time.Second), price)
			o.Provider = string(rune('p' + i>>2))
			all, want = append(all, o), append(want, Inserted)
			if rng.IntN(2) == 0 {
				stored, want[i] = append(stored, o), Duplicate
			}
		}
		_, err := s.Apply(t.Context(), stored)
		require.NoError(t, err)
		effects, err := s.Apply(t.Context(), all)
		require.NoError(t, err)
		for i, effect := range effects {
			require.Equal(t, want[i], effect.Outcome, "round %d, %d", round, i)
		}
		require.Empty(t, s.known.missing(arrange(all).keys()), "their rows are not inserted again")
	}
}

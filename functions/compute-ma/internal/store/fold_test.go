package store

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/priceevent"
)

// at returns an observation of a symbol at a second, with a price and a correction.
func at(t *testing.T, symbol string, second int, price string, correction int) priceevent.Observation {
	t.Helper()
	o := model.Observation(symbol, model.Instant.Add(time.Duration(second)*time.Second), model.Prices(t, price)[0])
	o.Correction = correction
	return o
}

func key(symbol string) series.Key { return series.Key{Symbol: symbol, Provider: "p"} }

func TestArrangeSortsAndPicksTheGreatestRank(t *testing.T) {
	t.Parallel()
	all := []priceevent.Observation{
		at(t, "B", 1, "1", 0), at(t, "A", 2, "2", 0), at(t, "A", 1, "3", 0), at(t, "A", 2, "4", 1), at(t, "B", 1, "5", 0),
	}
	all[0].RawResponseID, all[4].RawResponseID = uuid.Max, uuid.Nil
	w := arrange(all)
	require.Equal(t, []int{2, 3, 0}, w.points)
	require.Equal(t, []segment{{key("A"), 0, 2}, {key("B"), 2, 3}}, w.series)
	require.Equal(t, []series.Key{key("A"), key("B")}, w.keys())
}

func TestArrangeIsAFunctionOfTheSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 5))
		all := model.Events(t, rng, "S")
		want := arranged(all)
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		require.Equal(t, want, arranged(append(all, all[rng.IntN(len(all))])), "seed %d", seed)
	}
}

func arranged(all []priceevent.Observation) []priceevent.Observation {
	w := arrange(all)
	var out []priceevent.Observation
	for _, i := range w.points {
		out = append(out, w.observations[i])
	}
	return out
}

func newest(t *testing.T, from, to int) series.Newest {
	t.Helper()
	var n series.Newest
	for second := from; second < to; second++ {
		o := at(t, "A", second, "10", 0)
		n.Put(series.Point{At: o.ObservedAt.UnixMicro(), Price: series.NewValue(o.Price.Decimal())})
	}
	return n
}

func TestFold(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		all      []priceevent.Observation
		outcomes []Outcome // of each point, sorted
		state    state
		effects  []Effect
		mean     string // of the newest two points; empty: the row stays
	}{
		"first point": {
			[]priceevent.Observation{at(t, "A", 0, "4", 0)}, []Outcome{Inserted}, state{}, []Effect{{Outcome: Inserted}}, "4",
		},
		"duplicate": {
			[]priceevent.Observation{at(t, "A", 0, "4", 0)}, []Outcome{Duplicate}, state{newest: newest(t, 0, 3)}, []Effect{{Outcome: Duplicate}}, "",
		},
		"duplicate, but the row is stale": {
			[]priceevent.Observation{at(t, "A", 0, "4", 0)}, []Outcome{Duplicate}, state{newest(t, 0, 3), true}, []Effect{{Outcome: Duplicate}}, "10",
		},
		"new point that was read with the others": {
			[]priceevent.Observation{at(t, "A", 2, "4", 0)}, []Outcome{Inserted}, state{newest(t, 0, 3), true}, []Effect{{Outcome: Inserted}}, "7",
		},
		"correction of the newest point": {
			[]priceevent.Observation{at(t, "A", 2, "4", 1)}, []Outcome{Corrected}, state{newest: newest(t, 0, 3)}, []Effect{{Outcome: Corrected}}, "7",
		},
		"late point within the window": {
			[]priceevent.Observation{at(t, "A", -1, "4", 0)}, []Outcome{Inserted}, state{newest: newest(t, 0, 1)}, []Effect{{Inserted, true}}, "7",
		},
		"late point beyond all windows": {
			[]priceevent.Observation{at(t, "A", -1, "4", 0)},
			[]Outcome{Inserted},
			state{newest: newest(t, 0, series.MaxPoints)},
			[]Effect{{Inserted, true}},
			"",
		},
		"correction beyond all windows": {
			[]priceevent.Observation{at(t, "A", -1, "4", 1)},
			[]Outcome{Corrected},
			state{newest: newest(t, 0, series.MaxPoints)},
			[]Effect{{Outcome: Corrected}},
			"",
		},
		"two observations of one point": {
			[]priceevent.Observation{at(t, "A", 5, "4", 0), at(t, "A", 5, "6", 1)},
			[]Outcome{Inserted},
			state{newest: newest(t, 0, 3)},
			[]Effect{{Outcome: Duplicate}, {Outcome: Inserted}},
			"8",
		},
		"points of one batch are not late for each other": {
			[]priceevent.Observation{at(t, "A", 6, "4", 0), at(t, "A", 5, "6", 0)},
			[]Outcome{Inserted, Inserted},
			state{newest: newest(t, 0, 3)},
			[]Effect{{Outcome: Inserted}, {Outcome: Inserted}},
			"5",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := arrange(c.all)
			require.Len(t, w.points, len(c.outcomes))
			effects, rows := fold(w, c.outcomes, []state{c.state}, []int{2})
			require.Equal(t, c.effects, effects)
			if c.mean == "" {
				require.Empty(t, rows)
				return
			}
			require.Len(t, rows, 1)
			require.Equal(t, key("A"), rows[0].Key)
			require.Equal(t, c.mean, rows[0].averages[0].Mean.String())
		})
	}
}

func TestFoldWritesTheSeriesThatChangeAlone(t *testing.T) {
	t.Parallel()
	w := arrange([]priceevent.Observation{at(t, "C", 1, "3", 0), at(t, "A", 1, "1", 0), at(t, "B", 1, "2", 0)})
	effects, rows := fold(w, []Outcome{Inserted, Duplicate, Inserted}, make([]state, 3), []int{1, 5})
	require.Equal(t, []Effect{{Outcome: Inserted}, {Outcome: Inserted}, {Outcome: Duplicate}}, effects)
	require.Len(t, rows, 2)
	require.Equal(t, key("A"), rows[0].Key)
	require.Equal(t, key("C"), rows[1].Key)
	require.Equal(t, "3", rows[1].averages[1].Mean.String())
}

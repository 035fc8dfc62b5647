package store

import (
	"cmp"
	"slices"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/priceevent"
)

// Outcome is what an event did to its point.
type Outcome string

// Outcomes of an event. Each but Held is final: the event may be acknowledged.
const (
	Inserted  Outcome = "inserted"  // added a point
	Corrected Outcome = "corrected" // replaced the point's price: its rank is greater
	Duplicate Outcome = "duplicate" // changed nothing: the point has this rank or a greater one
	Held      Outcome = "held"      // changed nothing: another transaction holds the series, see [heldSeries]
)

// Effect is what became of one event.
type Effect struct {
	Outcome Outcome
	Late    bool // the point was inserted behind the newest point that its series had
}

// work is a batch of observations in the order in which Postgres gets and locks the rows: by series, then by instant.
type work struct {
	observations []priceevent.Observation
	points       []int // for each point, the index of its observation with the greatest rank
	series       []segment
}

// segment is a series of a batch and its part of the batch's points.
type segment struct {
	series.Key
	from, to int
}

// keyOf returns the series of an observation.
func keyOf(o *priceevent.Observation) series.Key {
	return series.Key{Symbol: string(o.Symbol), Provider: o.Provider}
}

func comparePoints(a, b *priceevent.Observation) int {
	return cmp.Or(keyOf(a).Compare(keyOf(b)), cmp.Compare(a.ObservedAt.UnixMicro(), b.ObservedAt.UnixMicro()))
}

// arrange sorts a batch and picks one observation for each point.
func arrange(all []priceevent.Observation) work {
	w := work{observations: all, points: make([]int, len(all))}
	for i := range all {
		w.points[i] = i
	}
	// Within a point the greatest rank comes first, so that compacting keeps it.
	slices.SortFunc(w.points, func(i, j int) int {
		if c := comparePoints(&all[i], &all[j]); c != 0 {
			return c
		}
		return all[j].CompareRank(all[i])
	})
	w.points = slices.CompactFunc(w.points, func(i, j int) bool { return comparePoints(&all[i], &all[j]) == 0 })
	for n, i := range w.points {
		k := keyOf(&all[i])
		if last := len(w.series) - 1; last < 0 || w.series[last].Key != k {
			w.series = append(w.series, segment{Key: k, from: n})
		}
		w.series[len(w.series)-1].to = n + 1
	}
	return w
}

// state is what is stored of a series when a batch reaches it.
type state struct {
	newest series.Newest
	// stale means that the series' row does not hold newest, which was read from the points: the row must be written even if the
	// batch does not change it.
	stale bool
}

// row is what the row of a series must become.
type row struct {
	series.Key
	newest   series.Newest
	averages []series.Average // one for each window; none if the series has no point
}

// fold returns the effect of each observation and the rows that change. It is given the outcome of each point (of w.points) in the
// table of points, and the state of each series (of w.series). It is pure; the newest points in states are taken over.
func fold(w work, outcomes []Outcome, states []state, windows []int) ([]Effect, []row) {
	effects := make([]Effect, len(w.observations))
	for i := range effects {
		effects[i].Outcome = Duplicate // an observation that is not its point's greatest
	}
	var rows []row
	for i, segment := range w.series {
		stored := &states[i] //nolint:gosec // one for each series
		newest, changed := stored.newest, stored.stale
		for p := segment.from; p < segment.to; p++ {
			if outcomes[p] == Duplicate {
				continue
			}
			o := &w.observations[w.points[p]]
			at := o.ObservedAt.UnixMicro()
			effects[w.points[p]] = Effect{
				Outcome: outcomes[p],
				Late:    outcomes[p] == Inserted && len(newest.Points) > 0 && at < newest.Points[0].At,
			}
			if newest.Put(series.Point{At: at, Price: series.NewValue(o.Price.Decimal())}) {
				changed = true
			}
		}
		if changed {
			rows = append(rows, row{segment.Key, newest, newest.Averages(windows)})
		}
	}
	return effects, rows
}

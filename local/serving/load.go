package serving

import (
	"slices"
	"time"
)

// load is the number of requests in flight or waiting, averaged over short periods. Not safe for concurrent use.
type load struct {
	now     int
	since   time.Time // up to which area counts
	area    float64   // requests times seconds in the current period
	began   time.Time // of the current period
	periods []period
}

type period struct {
	end     time.Time
	average float64
}

// change adds to the number of requests.
func (l *load) change(now time.Time, by int) {
	l.settle(now)
	l.now += by
}

func (l *load) settle(now time.Time) {
	if l.since.IsZero() {
		l.since, l.began = now, now
	}
	l.area += float64(l.now) * now.Sub(l.since).Seconds()
	l.since = now
}

// peak ends the current period, and returns the highest average of the periods that ended in the last window. It is 0 only if no
// request was there during the whole window.
func (l *load) peak(now time.Time, window time.Duration) float64 {
	l.settle(now)
	if length := now.Sub(l.began).Seconds(); length > 0 {
		l.periods = append(l.periods, period{now, l.area / length})
	}
	l.area, l.began = 0, now
	l.periods = slices.DeleteFunc(l.periods, func(p period) bool { return now.Sub(p.end) >= window })
	highest := float64(l.now) * smallest
	for _, p := range l.periods {
		highest = max(highest, p.average)
	}
	return highest
}

// smallest makes a request that has just arrived count as some load.
const smallest = 1e-9

// wakes are the last cold starts. Not safe for concurrent use.
type wakes struct {
	count int
	last  []time.Duration // a ring of the last keptWakes
}

const keptWakes = 1000

func (w *wakes) add(d time.Duration) {
	if len(w.last) < keptWakes {
		w.last = append(w.last, d)
	} else {
		w.last[w.count%keptWakes] = d
	}
	w.count++
}

// quantile returns the cold start that a share q of the last ones did not exceed (nearest rank); 0: there was none.
func (w *wakes) quantile(q float64) time.Duration {
	if len(w.last) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(w.last))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

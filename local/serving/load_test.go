package serving

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoadPeak(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	const window = 3 * time.Second
	var l load
	require.Zero(t, l.peak(at(0), window))
	l.change(at(0), +10)
	l.change(at(0.5), -10)
	require.InDelta(t, 5, l.peak(at(1), window), 1e-9, "ten requests for half of the period")
	l.change(at(1.5), +1)
	require.InDelta(t, 5, l.peak(at(2), window), 1e-9, "the highest period of the window counts")
	require.InDelta(t, 5, l.peak(at(3), window), 1e-9)
	require.InDelta(t, 1, l.peak(at(4), window), 1e-9, "the first period has left the window")
	l.change(at(4), -1)
	require.InDelta(t, 1, l.peak(at(6), window), 1e-9)
	require.Zero(t, l.peak(at(7), window))
	l.change(at(7), +1)
	require.Positive(t, l.peak(at(7), window), "a request that has just come keeps its replica")
}

func TestWakesQuantile(t *testing.T) {
	t.Parallel()
	var w wakes
	require.Zero(t, w.quantile(0.5))
	for i := range 2 * keptWakes {
		w.add(time.Duration(i) * time.Millisecond)
	}
	require.Equal(t, 2*keptWakes, w.count)
	require.Equal(t, 1500*time.Millisecond, w.quantile(0.5))
	require.Equal(t, 1990*time.Millisecond, w.quantile(0.99))
	require.Equal(t, 1999*time.Millisecond, w.quantile(1))
}

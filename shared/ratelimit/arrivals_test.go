package ratelimit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model implements the rule naively: it keeps every admission.
type model struct{ admitted []time.Time }

// inWindow counts the admissions in the window that ends at now.
func (m *model) inWindow(now time.Time, window time.Duration) (n int) {
	for _, a := range m.admitted {
		if now.Sub(a) < window {
			n++
		}
	}
	return n
}

func (m *model) allows(now time.Time, limits []Limit) bool {
	for _, l := range limits {
		if m.inWindow(now, l.Window) >= l.N {
			return false
		}
	}
	return true
}

// noWindowHoldsMore checks every window [t, t+Window) that begins with an admission: no other window can hold more.
func (m *model) noWindowHoldsMore(t *testing.T, l Limit) {
	t.Helper()
	for i := l.N; i < len(m.admitted); i++ {
		require.GreaterOrEqual(t, m.admitted[i].Sub(m.admitted[i-l.N]), l.Window)
	}
}

// testRandomArrivals checks the rule with random arrivals: bursts, pauses, and the edges of windows to the microsecond. No window
// holds more than N; no request is refused while every limit has room.
func testRandomArrivals(t *testing.T, s subject) {
	t.Helper()
	for seed, limits := range [][]Limit{
		{{5, time.Minute}},
		{{1, time.Second}},
		{{40, time.Hour}},
		{{1, time.Second}, {5, time.Minute}, {25, day}},
		{{8, time.Minute}, {800, day}},
	} {
		key := string(rune('a' + seed))
		began := time.Now()
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		moved, m := time.Duration(0), model{}
		for range 800 {
			now := start.Add(moved)
			if s.running {
				now = now.Add(time.Since(began))
			}
			step := arrival(rng, now, &m, limits)
			s.advance(step)
			moved, now = moved+step, now.Add(step)
			d, err := s.Take(t.Context(), key, limits...)
			require.NoError(t, err)
			if !s.running || m.allows(now.Add(-slack), limits) == m.allows(now.Add(slack), limits) {
				require.Equal(t, m.allows(now, limits), d.Allowed)
			}
			if d.Allowed {
				m.admitted = append(m.admitted, now)
			}
			if !s.running {
				for i, l := range limits {
					require.Equal(t, l.N-m.inWindow(now, l.Window), d.Left[i])
				}
			}
		}
		require.Greater(t, len(m.admitted), 50)
		for _, l := range limits {
			if s.running {
				l.Window -= slack
			}
			m.noWindowHoldsMore(t, l)
		}
	}
}

// arrival returns the time until the next request.
func arrival(rng *rand.Rand, now time.Time, m *model, limits []Limit) time.Duration {
	window := limits[rng.IntN(len(limits))].Window
	switch rng.IntN(5) {
	case 0, 1:
		return 0 // a burst
	case 2: // around the edge of the window of some admission
		if n := len(m.admitted); n > 0 {
			edge := m.admitted[max(n-1-rng.IntN(30), 0)].Add(window).Sub(now)
			return max(edge+time.Duration(rng.IntN(3)-1)*time.Microsecond, 0)
		}
	case 3:
		return time.Duration(rng.Int64N(int64(window / 4))).Truncate(time.Microsecond)
	}
	return time.Duration(rng.Int64N(int64(window * 3 / 2))).Truncate(time.Microsecond)
}

package service

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The limit applies to the whole process, so no other test may run at the same time.
func TestTheEnvironmentOverridesLimitMemory(t *testing.T) { //nolint:paralleltest // see above
	before := debug.SetMemoryLimit(math.MaxInt64)
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	LimitMemory(400, 32)
	require.EqualValues(t, 32<<20, debug.SetMemoryLimit(-1))
	debug.SetMemoryLimit(100 << 20) // as GOMEMLIMIT does
	LimitMemory(400, 32)
	require.EqualValues(t, 100<<20, debug.SetMemoryLimit(-1))
	require.Equal(t, 400, debug.SetGCPercent(50)) // as GOGC does
	TuneGC(200)
	require.Equal(t, 50, debug.SetGCPercent(100))
}

// What lives may grow beyond the limit: then the limit is above it, and returns once it is gone.
func TestLimitMemoryRisesWithWhatLives(t *testing.T) { //nolint:paralleltest // as above
	before := debug.SetMemoryLimit(math.MaxInt64)
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	LimitMemory(400, 48)
	limit := func(reached func(int64) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !reached(debug.SetMemoryLimit(-1)); runtime.Gosched() { // finalizers run in their own time
			require.True(t, time.Now().Before(end))
			runtime.GC()
		}
	}
	alive := make([][]byte, 100)
	for i := range alive {
		alive[i] = make([]byte, 1<<20)
	}
	limit(func(now int64) bool { return now > 125<<20 })
	for range 100 {
		alive = append(alive, make([]byte, 1<<20))
	}
	limit(func(now int64) bool { return now == mostMemory })
	runtime.KeepAlive(alive)
	limit(func(now int64) bool { return now == 48<<20 })
}

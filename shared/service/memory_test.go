package service

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// The limit applies to the whole process, so no other test may run at the same time.
func TestTheEnvironmentOverridesLimitMemory(t *testing.T) { //nolint:paralleltest // see above
	before := debug.SetMemoryLimit(math.MaxInt64)
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetMemoryLimit(before); debug.SetGCPercent(percent) })
	LimitMemory(32)
	require.EqualValues(t, 32<<20, debug.SetMemoryLimit(-1))
	debug.SetMemoryLimit(100 << 20) // as GOMEMLIMIT does
	LimitMemory(32)
	require.EqualValues(t, 100<<20, debug.SetMemoryLimit(-1))
	require.Equal(t, 400, debug.SetGCPercent(50)) // as GOGC does
	TuneGC(200)
	require.Equal(t, 50, debug.SetGCPercent(100))
}

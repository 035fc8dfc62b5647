package averages

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// A history that waits for a slot longer than its request may take is refused, and its slot is there for the next one.
func TestASlotIsRefusedWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	s := make(slots, 1)
	require.NoError(t, s.take(t.Context()))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.take(over)
	require.Equal(t, fault.CodeOverloaded, fault.CodeOf(err))
	require.False(t, fault.Permanent(err))
	s.give()
	require.NoError(t, s.take(t.Context()))
}

func TestHistoriesLeaveHalfOfTheCPUs(t *testing.T) { //nolint:paralleltest // sets GOMAXPROCS
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for cpus, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 16: 8} {
		runtime.GOMAXPROCS(cpus)
		require.Equal(t, want, cap(newSlots()), cpus)
		require.Equal(t, cpus, runtime.GOMAXPROCS(0))
	}
}

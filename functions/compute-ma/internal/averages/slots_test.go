package averages

import (
	"context"
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

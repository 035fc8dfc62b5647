package request

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestWhatClientsSendIsTakenOnlyInItsForm(t *testing.T) {
	t.Parallel()
	for id, usable := range map[string]bool{
		"a": true, "A-z_0.9:": true, strings.Repeat("x", 128): true, "": false, strings.Repeat("x", 129): false, "a b": false, "é": false, "a\n": false, `"`: false,
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, usable, usableID(id))
		})
	}
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for header, usable := range map[string]bool{
		good: true, "": false, good + "0": false, strings.ToUpper(good): false, good[:54] + "-": false, good[:2] + "0" + good[3:]: false, good[:53] + "\xff\xff": false,
		strings.Repeat("-", 55): false, strings.Repeat("0", 55): false, "xx" + good[2:]: false,
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, usable, usableTrace(header))
		})
	}
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		parsed, err := uuid.Parse(id)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(4), parsed.Version())
		require.Equal(t, uuid.RFC4122, parsed.Variant())
		require.False(t, seen[id])
		seen[id] = true
	}
}

package trace

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceparent(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]struct{ usable, continued, sampled bool }{
		good:             {true, true, true},
		good[:53] + "00": {true, true, false},
		good[:53] + "03": {true, true, true},
		good[:53] + "fe": {true, true, false},
		good[:53] + "0b": {true, true, true},
		"cc" + good[2:]:  {true, true, true}, // a later version, of which we know this part
		"ff" + good[2:]:  {true, false, false},
		"00-" + strings.Repeat("0", 32) + good[35:]: {true, false, false},
		good[:36] + strings.Repeat("0", 16) + "-01": {true, false, false},
		"":                        {},
		good + "0":                {},
		strings.ToUpper(good):     {},
		good[:54] + "-":           {},
		good[:2] + "0" + good[3:]: {},
		good[:53] + "\xff\xff":    {},
		strings.Repeat("-", 55):   {},
		strings.Repeat("0", 55):   {},
		"xx" + good[2:]:           {},
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want.usable, Usable(header))
			require.Equal(t, want.usable, IDOf(header) != "")
			parent, ok := parse(header)
			require.Equal(t, want.continued, ok)
			require.Equal(t, want.sampled, parent.IsSampled())
			if ok {
				require.Equal(t, "00"+header[2:53], format(parent)[:53])
			}
		})
	}
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", IDOf(good))
}

package terminal

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzTable prints any text: it cannot leave its line, move the cursor or change colours.
func FuzzTable(f *testing.F) {
	f.Add("\x1b[2J\x1b]0;owned\x07", "a\r\nb", 20)
	f.Add("\u202e5.00 evil", "\xff\x9b31m", 80)
	f.Add(strings.Repeat("日", 100), "", 0)
	f.Fuzz(func(t *testing.T, a, b string, width int) {
		width &= 1<<10 - 1
		table := newTable("A", "B")
		table.add(a, b)
		for _, line := range table.lines(width) {
			require.True(t, utf8.ValidString(line))
			require.False(t, strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", line)
			require.LessOrEqual(t, utf8.RuneCountInString(line), max(width, widest+2+10))
		}
	})
}

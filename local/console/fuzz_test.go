package console

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"unicode"

	"github.com/stretchr/testify/require"
)

// FuzzReadable prints lines with any text: it cannot control the terminal, nor begin a line that looks like another one.
func FuzzReadable(f *testing.F) {
	f.Add("request", "\x1b[2J\x1b]0;owned\x07", `{"a":1}`)
	f.Add("a\r\nb", "panic: x\n\tmain.go:1", "not json \x9b31m")
	f.Add("\u202e", "\xff", `{"msg":"\u001b[0m","level":{"x":"\u0007"}}`)
	f.Fuzz(func(t *testing.T, message, value, raw string) {
		line, err := json.Marshal(map[string]string{"msg": message, "level": "INFO", "err": value})
		require.NoError(t, err)
		for _, text := range []string{string(line), strings.ReplaceAll(raw, "\n", "")} {
			var out strings.Builder
			synctest.Test(t, func(t *testing.T) { // which does not wait for more lines
				_, err = newReadable(&out, "poll").Write([]byte(text + "\n"))
				require.NoError(t, err)
			})
			for i, printed := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
				require.True(t, strings.HasPrefix(printed, map[bool]string{true: "poll", false: "    "}[i == 0]), "%q", printed)
				require.False(t, strings.ContainsFunc(printed, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }), "%q", printed)
			}
		}
	})
}

package flight

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// FuzzFailure reads a failure as another replica wrote it, and any text that Redis may hold instead: it is an error with a code, whose wait
// is bounded.
func FuzzFailure(f *testing.F) {
	f.Add(`{"kind":2,"code":"symbol_not_found","detail":"no AAPL"}`, "provider_auth", "50% \"off\"\n", 5, int64(1500))
	f.Add(`{"kind":4,"code":"x","retry_after_ms":9223372036854775807}`, "", "", 0, int64(0))
	f.Add(`{"kind":99,"code":"x","retry_after_ms":-1}`, "a\x00b", "%s%!d", -1, int64(-1))
	f.Add("{junk", "\u2028", "<&>", 1, int64(7))
	f.Add("0", "\xd7", "\xb4", 5, int64(1434))
	f.Add(`{"code":"x"}`, "provider_auth", "x", 5, int64(0))
	f.Add("null", "x", "\xff", 3, int64(1))
	f.Fuzz(func(t *testing.T, text, code, detail string, kind int, ms int64) {
		read, ok := fault.As(decodeFailure(text))
		require.True(t, ok)
		require.NotEmpty(t, read.Code)
		require.True(t, read.RetryAfter >= 0 && read.RetryAfter <= longestWait, read.RetryAfter)
		if kind < int(fault.Internal) || kind > int(fault.Unavailable) || ms < 0 || ms > longestWait.Milliseconds() || code == "" || !utf8.ValidString(code) || !utf8.ValidString(detail) {
			return
		}
		want := fault.New(fault.Kind(kind), code, "%s", detail).After(time.Duration(ms) * time.Millisecond)
		require.Equal(t, want, decodeFailure(encodeFailure(want)))
	})
}

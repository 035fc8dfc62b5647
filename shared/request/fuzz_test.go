package request

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzRequest sends any headers that a log line, a problem document or a decision depends on.
func FuzzRequest(f *testing.F) {
	f.Add("mine-1", "https://evil.example", "h", "", "POST", 16)
	f.Add("a\r\nX: y", "http://h", "h", "same-origin", "\xff", 1)
	f.Add(strings.Repeat("x", 200), "null", "", "cross-site", "ü", 0)
	id := regexp.MustCompile(`\A[A-Za-z0-9._:-]{1,128}\z`)
	f.Fuzz(func(t *testing.T, requestID, origin, host, site, text string, n int) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Host = host
		r.Header = http.Header{"X-Request-Id": {requestID}, "Origin": {origin}, "Sec-Fetch-Site": {site}}
		got := ID(Identify(r).Context())
		require.Regexp(t, id, got)
		require.Equal(t, id.MatchString(requestID), got == requestID)
		switch err := CheckOrigin(r); {
		case site == "same-origin" || site == "none" || site == "" && origin == "":
			require.NoError(t, err)
		case site != "":
			require.Error(t, err)
		case err == nil:
			require.True(t, host != "" && strings.Contains(origin, host))
		}
		n &= 1<<10 - 1
		cut := Cut(text, n)
		require.True(t, utf8.ValidString(cut))
		require.LessOrEqual(t, len(cut), 3*n+len("…"))
	})
}

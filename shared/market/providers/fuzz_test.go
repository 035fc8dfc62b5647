package providers

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzBaseURL builds the URL of a call as package upstream does: its host and the beginning of its path are those of the setting.
func FuzzBaseURL(f *testing.F) {
	for _, text := range []string{
		"https://query1.finance.yahoo.com", "http://127.0.0.1:8080/yfinance/", "http://h?", "http://h#", "http://u:p@h", "http://:80", "file:///etc/passwd", "//h",
		"http://h/a/../b", "http://h%2f@evil", "http://h\\@evil", "http://[::1]:80/x", "HTTP://H", "http://h/%2f",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !usableBase(text) {
			return
		}
		base, err := url.Parse(text)
		require.NoError(t, err)
		call, err := url.Parse(strings.TrimRight(text, "/") + "/query?symbol=A")
		require.NoError(t, err)
		require.Contains(t, []string{"http", "https"}, call.Scheme)
		require.NotEmpty(t, call.Hostname())
		require.Equal(t, base.Host, call.Host)
		require.Nil(t, call.User)
		require.Equal(t, strings.TrimRight(base.EscapedPath(), "/")+"/query", call.EscapedPath()) // %2f is no slash
		require.Equal(t, "symbol=A", call.RawQuery)
	})
}

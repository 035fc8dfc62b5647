package service

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzOrigins reads any setting of CORS_ORIGINS: it allows nothing but the origins that it spells out.
func FuzzOrigins(f *testing.F) {
	for _, pair := range [][2]string{
		{"https://charts.example.com,http://localhost:3000", "http://localhost:3000"},
		{"*", "null"},
		{"https://a/", "https://a"},
		{"http://u@h", "http://h"},
		{"https://[::1]:8443", "https://[::1]:8443"},
		{"http://a\r\nX: y", "http://a"},
		{"null", "null"},
		{"\v,", "0"},
		{"", ""},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, setting, origin string) {
		o, err := ParseOrigins(setting)
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Origin"] = []string{origin}
		allowed := o.allow(w, r)
		given := w.Header().Get("Access-Control-Allow-Origin")
		require.Equal(t, allowed, given != "")
		if allowed && given != "*" {
			require.Equal(t, origin, given)
			require.Contains(t, setting, origin)
			require.True(t, isOrigin(origin))
			require.Regexp(t, `^https?://[^/?#@\s]+$`, origin)
		}
		if !o.Any() && err == nil {
			require.Regexp(t, `^[\s\v,\x{85}\x{a0}\p{Z}]*$`, setting, "nothing is dropped in silence")
		}
	})
}

package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secrecy checks that the key is sent to the provider in its place, and appears nowhere else: ask looks for it in every outcome of
// servers that echo it.
func (a Adapter) secrecy(t *testing.T) {
	t.Helper()
	t.Run("the key's place", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http")
		var seen *http.Request
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			seen = r
			ok.ServeHTTP(w, r)
		})
		require.NoError(t, a.ask(t.Context(), t, p, a.Symbol).err)
		switch {
		case a.Key.Header != "":
			require.Equal(t, a.Key.Prefix+key, seen.Header.Get(a.Key.Header))
			require.NotContains(t, seen.URL.String(), key, "the key is only in the header")
		case a.Key.Query != "":
			require.Equal(t, key, seen.URL.Query().Get(a.Key.Query))
		default:
			require.NotContains(t, seen.URL.String()+fmt.Sprint(seen.Header), key)
		}
	})
	t.Run("echoes", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http")
		var status int
		var body string
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			echo, _ := json.Marshal(map[string]any{"url": r.URL.String(), "header": r.Header}) // never fails
			w.Header().Set("Location", "/moved?k="+key)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(strings.ReplaceAll(body, "ECHO", string(echo))))
		})
		extended := strings.Replace(string(ok.body), "{", `{"zz_echo":"`+key+`","zz_request":ECHO,`, 1)
		for _, body = range []string{
			extended, "ECHO", "<html>ECHO " + url.QueryEscape(key), key, `{"Information":"` + key + `","message":"` + key + `","code":"` + key + `"}`,
			strings.ReplaceAll(string(ok.body), `":`, `":"`+key+`","x":`), // before every value
		} {
			for _, status = range []int{200, 302, 400, 401, 403, 404, 418, 429, 451, 500, 503} {
				r := a.ask(t.Context(), t, p, a.Symbol)
				if body == extended && strings.Contains(body, key) && status == http.StatusOK {
					require.NoError(t, r.err)
					require.Contains(t, string(r.resp.Body), "REDACTED", "the stored body is masked")
				}
			}
		}
	})
	t.Run("a response that is not HTTP", func(t *testing.T) {
		t.Parallel()
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "%s %s\r\n\r\n", r.URL, key)
				_ = conn.Close()
			}
		})
		require.Error(t, a.ask(t.Context(), t, p, a.Symbol).err)
	})
}

package conformance

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// transport checks that a call is bounded in time and size, ends with its context, and is made once.
func (a Adapter) transport(t *testing.T) {
	t.Helper()
	stall := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		p := a.adapter(t, http.HandlerFunc(stall), "", key, 100*time.Millisecond)
		require.Equal(t, "provider_timeout", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			stall(w, r)
		})
		require.ErrorIs(t, a.ask(ctx, t, p, a.Symbol).err, context.Canceled)
		require.ErrorIs(t, a.ask(ctx, t, p, a.Symbol).err, context.Canceled, "the call does not begin")
	})
	t.Run("oversized", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http") // with spaces, so that the limit alone can refuse it
		size := 2 << 20
		if a.asks != nil {
			size = 5 << 20
		}
		p := a.serve(t, recording{ok.status, ok.header, append(ok.body, strings.Repeat(" ", size)...)}.ServeHTTP)
		require.Equal(t, "provider_malformed", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
	})
	t.Run("a refusal with an oversized or truncated body", func(t *testing.T) {
		t.Parallel()
		for _, end := range []string{strings.Repeat(" ", 2<<20), "cut"} {
			p := a.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if end == "cut" {
					w.Header().Set("Content-Length", "100")
				}
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = w.Write([]byte(end)) // an error means that the caller has read enough
			})
			Want{Code: "provider_rate_limited", Wait: 7 * time.Second}.check(t, a.ask(t.Context(), t, p, a.Symbol))
		}
	})
	t.Run("compressed", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http")
		for _, body := range [][]byte{ok.body, append(ok.body, bytes.Repeat([]byte(" "), 8<<20)...)} {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, err := z.Write(body)
			require.NoError(t, err)
			require.NoError(t, z.Close())
			p := a.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(packed.Bytes()) // an error means that the caller has read enough
			})
			r := a.ask(t.Context(), t, p, a.Symbol)
			if len(body) == len(ok.body) {
				a.checkOK(t, r)
			} else {
				require.Equal(t, "provider_malformed", fault.CodeOf(r.err), "a bomb is not unpacked")
			}
		}
	})
	t.Run("no provider", func(t *testing.T) {
		t.Parallel()
		p := a.adapter(t, http.NotFoundHandler(), "/", key, patience)
		require.Equal(t, "provider_malformed", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
		p = a.serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		require.Equal(t, "provider_unavailable", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
	})
	t.Run("one GET under the base URL", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http")
		var seen []*http.Request
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r)
			ok.ServeHTTP(w, r)
		})
		require.NoError(t, a.ask(t.Context(), t, p, a.Symbol).err)
		require.Len(t, seen, 1)
		require.Equal(t, http.MethodGet, seen[0].Method)
		require.True(t, strings.HasPrefix(seen[0].URL.Path, "/base/"), seen[0].URL.Path)
		require.NotContains(t, seen[0].URL.Path, "//")
		require.Contains(t, seen[0].URL.String(), string(a.Symbol), "the symbol is sent unchanged")
		require.NotEmpty(t, seen[0].UserAgent())
	})
	// For any symbol, the rest of the request is unchanged, and the symbol arrives whole in its place.
	t.Run("a symbol cannot change the request", func(t *testing.T) {
		t.Parallel()
		ok := a.record(t, "ok.http")
		var seen *http.Request
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			seen = r
			ok.ServeHTTP(w, r)
		})
		require.NoError(t, a.ask(t.Context(), t, p, a.Symbol).err)
		usual := seen
		for _, symbol := range []market.Symbol{
			"M&M.NS", "L&TFH.NS", "BTC+ETH", "A&APIKEY=X", "A=1&SYMBOL=B", "^GSPC", "EURUSD=X", "A:B_C", "A//B", "/A", "//A", "A/",
			"http://EVIL", "//EVIL:80/A", ":80/A", "..A", "A/../B", "../../A", "..%2FA", "A?B=C", "A#B", "A@EVIL", `A\B`,
		} {
			seen = nil
			r := a.ask(t.Context(), t, p, symbol)
			if seen == nil { // refused without a call
				require.Equal(t, "symbol_not_found", fault.CodeOf(r.err), symbol)
				continue
			}
			require.NoError(t, r.err, symbol)
			require.Equal(t, usual.Host, seen.Host)
			swap := func(s string) string { return strings.ReplaceAll(s, string(a.Symbol), string(symbol)) }
			require.Equal(t, swap(usual.URL.Path), seen.URL.Path)
			require.Equal(t, strings.Count(usual.URL.EscapedPath(), "/"), strings.Count(seen.URL.EscapedPath(), "/"), symbol)
			require.Len(t, seen.URL.Query(), len(usual.URL.Query()), symbol)
			for name, values := range usual.URL.Query() {
				require.Equal(t, swap(values[0]), seen.URL.Query().Get(name), symbol)
			}
			// Servers that decode a path as a query must see the same.
			again, err := url.QueryUnescape(seen.URL.EscapedPath())
			require.NoError(t, err)
			require.Equal(t, seen.URL.Path, again)
		}
	})
	t.Run("redirects are not followed", func(t *testing.T) {
		t.Parallel()
		calls := 0
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			calls++
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		})
		require.Equal(t, "provider_malformed", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
		require.Equal(t, 1, calls)
	})
}

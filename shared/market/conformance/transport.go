package conformance

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
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
	t.Run("the context's end ends the call", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p := a.serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			stall(w, r)
		})
		require.ErrorIs(t, a.ask(ctx, t, p, a.Symbol).err, context.Canceled)
		require.ErrorIs(t, a.ask(ctx, t, p, a.Symbol).err, context.Canceled, "nor does it begin")
	})
	t.Run("oversized", func(t *testing.T) {
		t.Parallel()
		ok := record(t, "ok.http") // and spaces: what is cut off is not missed
		p := a.serve(t, recording{ok.status, ok.header, append(ok.body, strings.Repeat(" ", 2<<20)...)}.ServeHTTP)
		require.Equal(t, "provider_malformed", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		p := a.adapter(t, http.NotFoundHandler(), "/", key, patience)
		require.Equal(t, "provider_malformed", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
		p = a.serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		require.Equal(t, "provider_unavailable", fault.CodeOf(a.ask(t.Context(), t, p, a.Symbol).err))
	})
	t.Run("one GET under the base URL", func(t *testing.T) {
		t.Parallel()
		ok := record(t, "ok.http")
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
		require.Contains(t, seen[0].URL.String(), string(a.Symbol), "the symbol goes as it is")
		require.NotEmpty(t, seen[0].UserAgent())
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

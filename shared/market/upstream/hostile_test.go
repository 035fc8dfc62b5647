package upstream

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// What a compressed response expands to is bounded, too.
func TestACompressedResponseIsBounded(t *testing.T) {
	t.Parallel()
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	_, err := z.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	bomb := bytes.Repeat(member.Bytes(), 1<<10) // 1 GiB
	c := serve(t, KeyPlace{}, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb) // an error means that the client has read enough
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := c.GetHistory(t.Context(), "/", nil)
	runtime.ReadMemStats(&after)
	require.Equal(t, "provider_malformed", fault.CodeOf(err))
	require.ErrorContains(t, err, "larger than 4 MiB")
	require.Empty(t, a.Body)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256<<20), "bytes, also of tests beside this one")
}

// A provider cannot send us, or the key, elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	for _, target := range []string{other.URL + "/", strings.TrimPrefix(other.URL, "http:") + "/", "/again", "file:///etc/passwd", "http://169.254.169.254/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			var calls atomic.Int32
			c := serve(t, KeyPlace{Header: "X-Key"}, key, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("Location", target)
				w.WriteHeader(status)
			})
			a, err := c.Get(t.Context(), "/", nil)
			require.NoError(t, err)
			require.Equal(t, "provider_malformed", fault.CodeOf(a.StatusError()), target)
			require.EqualValues(t, 1, calls.Load(), target)
		}
	}
	require.Zero(t, elsewhere.Load())
}

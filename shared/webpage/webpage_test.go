package webpage_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"marketdata/shared/webpage"
)

func TestHandle(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	webpage.Handle(mux, "/dlq", "/dlq/page/", fstest.MapFS{
		"index.html": {Data: []byte("<!doctype html>")}, "app.js": {Data: []byte("1")}, "notes.txt": {Data: []byte("not a page")},
	})
	do := func(method, path, etag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("If-None-Match", etag)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	for path, mediaType := range map[string]string{
		"/dlq": "text/html; charset=utf-8", "/dlq/page/app.js": "text/javascript; charset=utf-8", "/dlq/page/tokens.css": "text/css; charset=utf-8",
		"/dlq/page/base.css": "text/css; charset=utf-8", "/dlq/page/dom.js": "text/javascript; charset=utf-8",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w := do(http.MethodGet, path, "")
			require.Equal(t, http.StatusOK, w.Code)
			require.NotEmpty(t, w.Body.String())
			require.Equal(t, mediaType, w.Header().Get("Content-Type"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
			require.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
			require.Equal(t, http.StatusNotModified, do(http.MethodGet, path, w.Header().Get("ETag")).Code)
			require.Equal(t, http.StatusOK, do(http.MethodHead, path, "").Code)
		})
	}
	for _, path := range []string{"/dlq/page/", "/dlq/page/none.js", "/dlq/page/notes.txt", "/dlq/page/..%2fapp.js", "/dlq/page/a%00.js"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, http.StatusNotFound, do(http.MethodGet, path, "").Code)
		})
	}
	require.Equal(t, http.StatusMethodNotAllowed, do(http.MethodPost, "/dlq/page/app.js", "").Code)
}

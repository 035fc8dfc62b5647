// Package call makes requests to handlers in tests, and reads their problem documents.
package call

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/problem"
)

// Do sends a request to a handler. header has names and values in turn.
func Do(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h.ServeHTTP(w, r)
	return w
}

// Problem returns the problem document of an answer, and requires that it is complete.
func Problem(t *testing.T, w *httptest.ResponseRecorder) problem.Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), w.Body.String())
	var p problem.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, w.Code, p.Status)
	require.Equal(t, w.Header().Get("X-Request-ID"), p.RequestID)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Type)
	return p
}

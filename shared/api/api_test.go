package api_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
)

// function is a function with an API and nothing else.
type function struct {
	*service.Service
	api *api.API
}

func newFunction(t *testing.T) (function, *bytes.Buffer) {
	t.Helper()
	var logs bytes.Buffer
	s := service.New(service.Config{}, slog.New(slog.NewJSONHandler(&logs, nil)))
	return function{s, api.New(s, "test", "A test.")}, &logs
}

func TestDocs(t *testing.T) {
	t.Parallel()
	s, _ := newFunction(t)
	w := call.Do(s.Handler(), http.MethodGet, "/docs/", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "/openapi.json")
	require.NotContains(t, w.Body.String(), "https://cdn", "the assets are our own")
	w = call.Do(s.Handler(), http.MethodGet, "/docs/swagger-ui-bundle.js", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Greater(t, w.Body.Len(), 100_000)
	require.Equal(t, http.StatusNotFound, call.Do(s.Handler(), http.MethodGet, "/docs/nothing.js", "").Code)
	require.Equal(t, "/docs/", call.Do(s.Handler(), http.MethodGet, "/docs", "").Header().Get("Location"))
	w = call.Do(s.Handler(), http.MethodGet, "/openapi.json", "")
	require.Contains(t, w.Body.String(), `"openapi":"3.1.0"`)
	require.Equal(t, []string{"no-store"}, w.Header().Values("Cache-Control"))
}

type thing struct {
	Body struct {
		N int `json:"n" minimum:"1"`
	}
}

func TestAPIRefusesWhatItsDocumentDoesNotShow(t *testing.T) {
	t.Parallel()
	s, logs := newFunction(t)
	var failure error
	api.Handle(s.api, huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
		func(_ context.Context, in *thing) (*thing, error) { return in, failure })
	post := func(body string, header ...string) *httptest.ResponseRecorder {
		return call.Do(s.Handler(), http.MethodPost, "/things", body, append([]string{"Content-Type", "application/json"}, header...)...)
	}
	require.Equal(t, http.StatusOK, post(`{"n":1}`).Code)
	for name, body := range map[string]string{"unknown member": `{"n":1,"x":2}`, "wrong type": `{"n":"1"}`, "too small": `{"n":0}`, "no JSON": `{`, "empty": ``, "array": `[]`} {
		w := post(body)
		require.Equal(t, http.StatusBadRequest, w.Code, name)
		require.Equal(t, "invalid_parameter", call.Problem(t, w).Code, name)
	}
	w := call.Do(s.Handler(), http.MethodPost, "/things?x=1", `{"n":1}`, "Content-Type", "application/json")
	require.Equal(t, "invalid_parameter", call.Problem(t, w).Code)
	w = post(`{"n":1}`, "Content-Type", "text/xml")
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
	require.Equal(t, "unsupported_media_type", call.Problem(t, w).Code)
	w = post(`{"n":` + strings.Repeat(" ", 1<<20) + `1}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, "body_too_large", call.Problem(t, w).Code)

	failure = fault.Wrap(errors.New("dsn=secret"), fault.Unavailable, "storage_unavailable", "try later").After(1200 * time.Millisecond)
	logs.Reset()
	w = post(`{"n":1}`)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.Equal(t, "try later", call.Problem(t, w).Detail)
	require.NotContains(t, w.Body.String(), "secret")
	require.Contains(t, logs.String(), "dsn=secret", "the log has the cause")
}

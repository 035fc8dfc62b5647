package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
)

// crossOrigin is a service with a route to read and one to change, for pages of the given origins.
func crossOrigin(t *testing.T, origins string, limit service.Middleware) function {
	t.Helper()
	_, err := service.ParseOrigins(origins)
	require.NoError(t, err)
	srv := service.New(service.Config{CORSOrigins: origins}, slog.New(slog.DiscardHandler))
	s := function{srv, api.New(srv, "test", "")}
	around := []service.Middleware{}
	if limit != nil {
		around = append(around, limit)
	}
	api.Handle(s.api, huma.Operation{OperationID: "read", Method: http.MethodGet, Path: "/things"},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil }, around...)
	api.Handle(s.api, huma.Operation{OperationID: "change", Method: http.MethodPost, Path: "/things"},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil }, around...)
	return s
}

func TestPagesOfConfiguredOriginsMayRead(t *testing.T) {
	t.Parallel()
	const page = "https://charts.example.com"
	s := crossOrigin(t, page+", http://localhost:3000", nil)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := call.Do(s.Handler(), method, "/things", "", "Origin", page)
		require.Equal(t, http.StatusNoContent, w.Code)
		require.Equal(t, page, w.Header().Get("Access-Control-Allow-Origin"))
		require.Equal(t, "Origin", w.Header().Get("Vary"))
		require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
		for _, name := range []string{"RateLimit", "RateLimit-Policy", "X-RateLimit-Remaining", "X-Cache", "Age", "Retry-After", "X-Request-ID", "ETag"} {
			require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), name)
		}
	}
	for _, origin := range []string{"", "https://evil.example.com", "https://charts.example.com.evil.com", "http://charts.example.com", "null"} {
		w := call.Do(s.Handler(), http.MethodGet, "/things", "", "Origin", origin)
		require.Equal(t, http.StatusNoContent, w.Code, "the answer is there: the browser keeps it from the page")
		require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), origin)
		require.Equal(t, "Origin", w.Header().Get("Vary"), origin)
	}
	w := call.Do(s.Handler(), http.MethodGet, "/things?x=1", "", "Origin", page)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, page, w.Header().Get("Access-Control-Allow-Origin"), "errors are read, too")
}

func TestARefusalByTheLimitCanBeReadFromElsewhere(t *testing.T) {
	t.Parallel()
	s := crossOrigin(t, "*", func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			problem.Write(w, r, fault.New(fault.Limited, "rate_limited", "spent"))
		})
	})
	w := call.Do(s.Handler(), http.MethodGet, "/things", "", "Origin", "https://anywhere.example.com")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "Retry-After")
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	const page = "https://charts.example.com"
	s := crossOrigin(t, page, nil)
	ask := func(origin, method string) *httptest.ResponseRecorder {
		return call.Do(s.Handler(), http.MethodOptions, "/things", "", "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "x-api-key")
	}
	w := ask(page, http.MethodGet)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Equal(t, page, w.Header().Get("Access-Control-Allow-Origin"))
	require.Equal(t, "GET, HEAD", w.Header().Get("Access-Control-Allow-Methods"))
	for _, name := range []string{"X-API-Key", "Last-Event-ID"} {
		require.Contains(t, w.Header().Get("Access-Control-Allow-Headers"), name)
	}
	require.Equal(t, []string{"Access-Control-Request-Method", "Access-Control-Request-Headers", "Origin"}, w.Header().Values("Vary"))
	require.NotContains(t, ask(page, http.MethodPost).Header().Get("Access-Control-Allow-Methods"), "POST", "elsewhere's pages change nothing")
	require.Empty(t, ask("https://evil.example.com", http.MethodGet).Header().Get("Access-Control-Allow-Origin"))

	s = crossOrigin(t, "", nil)
	w = call.Do(s.Handler(), http.MethodOptions, "/things", "", "Origin", page, "Access-Control-Request-Method", "GET")
	require.Equal(t, "method_not_allowed", call.Problem(t, w).Code)
	require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, call.Do(s.Handler(), http.MethodGet, "/things", "", "Origin", page).Header().Values("Vary"))
}

func TestOriginsThatNoBrowserSendsAreRefusedAtStart(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"https://a.com/", "https://a.com/x", "a.com", "ftp://a.com", "HTTPS://a.com", "https://A.com", "https://u@a.com", "https://a.com:443", "null", "https://", "https://a.com?x", "https://*.a.com\x00"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := service.ParseOrigins(text)
			require.ErrorContains(t, err, "CORS_ORIGINS: ")
		})
	}
	for _, text := range []string{"", "*", "https://a.com", "http://localhost:3000,https://a.com:8443", "http://a.com:443", "http://[::1]:3000"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := service.ParseOrigins(text)
			require.NoError(t, err)
		})
	}
}

func TestAnotherSitesPageChangesNothing(t *testing.T) {
	t.Parallel()
	s := crossOrigin(t, "https://charts.example.com", nil)
	change := func(header ...string) *httptest.ResponseRecorder { // its Host is example.com
		return call.Do(s.Handler(), http.MethodPost, "/things", "", header...)
	}
	for name, header := range map[string][]string{
		"no browser": {}, "same origin": {"Sec-Fetch-Site", "same-origin", "Origin", "http://behind.a.proxy"}, "typed": {"Sec-Fetch-Site", "none"},
		"old browser": {"Origin", "http://example.com"}, "behind a proxy": {"Origin", "https://public.com", "X-Forwarded-Host", "public.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, http.StatusNoContent, change(header...).Code)
		})
	}
	for name, header := range map[string][]string{
		"cross-site": {"Sec-Fetch-Site", "cross-site"}, "same-site": {"Sec-Fetch-Site", "same-site", "Origin", "http://other.example.com"},
		"simple POST": {"Content-Type", "text/plain", "Origin", "https://evil.com"}, "sandboxed": {"Origin", "null"}, "other port": {"Origin", "http://example.com:81"},
		"an origin that may read": {"Origin", "https://charts.example.com"}, "no origin at all": {"Origin", "%zz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := change(header...)
			require.Equal(t, http.StatusForbidden, w.Code)
			require.Equal(t, "foreign_origin", call.Problem(t, w).Code)
		})
	}
	require.Equal(t, http.StatusNoContent, call.Do(s.Handler(), http.MethodGet, "/things", "", "Sec-Fetch-Site", "cross-site").Code, "to read changes nothing")
}

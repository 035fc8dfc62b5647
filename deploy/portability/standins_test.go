//go:build integration && linux

package portability

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// seen is what a function sees of a request.
type seen struct {
	Header http.Header
	Length int64
	Body   string
}

// The stand-ins do to a request what the originals do.
func TestStandIns(t *testing.T) {
	t.Parallel()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.NewEncoder(w).Encode(seen{r.Header, r.ContentLength, string(body)})
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer echo.Close()
	function := &process{address: strings.TrimPrefix(echo.URL, "http://")}
	send := func(t *testing.T, h http.Handler, header http.Header) (s seen, response http.Header) {
		t.Helper()
		front := httptest.NewServer(h)
		defer front.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL, strings.NewReader("body"))
		require.NoError(t, err)
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read whole
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&s))
		require.Equal(t, "body", s.Body)
		return s, resp.Header
	}
	queueProxy, watchdog := newQueueProxy(function, 0, time.Minute), newWatchdog(function, 0, time.Minute)

	t.Run("queue-proxy", func(t *testing.T) { //nolint:paralleltest // the server ends with this test
		s, _ := send(t, queueProxy, http.Header{
			"X-Forwarded-For": {"203.0.113.9, 2001:db8::1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"example.com"},
			"Knative-Serving-Revision": {"r"}, "Knative-Serving-Namespace": {"n"}, "K-Proxy-Request": {"activator"},
		})
		require.EqualValues(t, 4, s.Length)
		require.Equal(t, "203.0.113.9, 2001:db8::1, 127.0.0.1", s.Header.Get("X-Forwarded-For"))
		require.Equal(t, `for=203.0.113.9;host=example.com;proto=https, for="[2001:db8::1]"`, s.Header.Get("Forwarded"))
		require.Equal(t, "https", s.Header.Get("X-Forwarded-Proto"))
		require.Empty(t, s.Header.Get("Knative-Serving-Revision")+s.Header.Get("Knative-Serving-Namespace"))
		require.Equal(t, "activator", s.Header.Get("K-Proxy-Request"))

		s, _ = send(t, queueProxy, http.Header{"Forwarded": {"for=198.51.100.1"}})
		require.Equal(t, "127.0.0.1", s.Header.Get("X-Forwarded-For"))
		require.Equal(t, "for=198.51.100.1", s.Header.Get("Forwarded"), "the client's own is kept")
	})
	t.Run("of-watchdog", func(t *testing.T) { //nolint:paralleltest // as above
		s, response := send(t, watchdog, http.Header{"X-Forwarded-For": {"203.0.113.9:4711"}})
		require.EqualValues(t, -1, s.Length)
		require.Equal(t, []string{"203.0.113.9:4711"}, s.Header["X-Forwarded-For"])
		require.Empty(t, s.Header.Get("Forwarded"))
		require.NotEmpty(t, response.Get("X-Duration-Seconds"))
	})
	t.Run("probes of queue-proxy", func(t *testing.T) { //nolint:paralleltest // as above
		front := httptest.NewServer(queueProxy)
		defer front.Close()
		probe := http.Header{"User-Agent": {"kube-probe/1.33"}, "K-Network-Probe": {"queue"}}
		require.Equal(t, http.StatusOK, status(front.URL, probe))
		require.Equal(t, http.StatusBadRequest, status(front.URL, http.Header{"User-Agent": {"kube-probe/1.33"}}))
		queueProxy.draining = true
		require.Equal(t, http.StatusServiceUnavailable, status(front.URL, probe))
		require.Equal(t, http.StatusOK, status(front.URL, nil), "requests are still served")
	})
	t.Run("probes of of-watchdog", func(t *testing.T) { //nolint:paralleltest // as above
		front := httptest.NewServer(watchdog)
		defer front.Close()
		for _, path := range []string{"/_/health", "/_/ready"} {
			watchdog.accepting.Store(true)
			require.Equal(t, http.StatusOK, status(front.URL+path, nil))
			watchdog.accepting.Store(false)
			require.Equal(t, http.StatusServiceUnavailable, status(front.URL+path, nil))
		}
		require.Equal(t, http.StatusOK, status(front.URL, nil), "requests are still served")
	})
}

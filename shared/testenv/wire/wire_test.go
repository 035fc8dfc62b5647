package wire_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/wire"
)

func TestLoadSendsEachRequestOnceOverInFlightConnections(t *testing.T) {
	t.Parallel()
	var requests, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "hello" || r.Header.Get("X-Name") != "value" || r.URL.Path != "/path" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	request := wire.Request("POST", server.URL+"/path", []byte("hello"), "X-Name: value")
	got, err := wire.Load(t.Context(), server.URL, 4, time.Minute, func(i int) []byte {
		if i >= 100 {
			return nil
		}
		return request
	}, wire.Expect(http.StatusOK))
	require.NoError(t, err)
	require.Equal(t, 100, got.Requests)
	require.EqualValues(t, 100, requests.Load())
	require.LessOrEqual(t, connections.Load(), int64(4))
	require.Positive(t, got.Rate)
	require.LessOrEqual(t, got.P50, got.P99)
}

func TestLoadEndsAtTheFirstUnexpectedResponse(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	_, err := wire.Load(t.Context(), server.URL, 2, time.Minute, func(int) []byte { return wire.Request("GET", server.URL, nil) }, wire.Expect(http.StatusOK))
	require.EqualError(t, err, "status 404, not 200")
}

func TestClosedConnectionIsReopened(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	t.Cleanup(server.Close)
	conn, err := wire.New(server.URL)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	for range 3 {
		status, _, err := conn.Do(wire.Request("GET", server.URL, nil))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
	}
}

func TestOnlyHTTPURLsAreTargets(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "https://host/", "host:80", "http://"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			_, err := wire.New(target)
			require.Error(t, err)
		})
	}
}

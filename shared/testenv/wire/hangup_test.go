package wire

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A server may close a connection that is idle. The next request then needs another one, and does not fail.
func TestAConnectionThatTheServerClosedWhileIdleIsReplaced(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.IdleTimeout = time.Millisecond
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	conn, err := New(server.URL)
	require.NoError(t, err)
	for range 2 {
		status, _, err := conn.Do(Request("GET", server.URL, nil))
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, status)
		<-closed
		conn.used = conn.used.Add(-time.Minute)
	}
	conn.Close()
}

// One that is still open is used again.
func TestAnIdleConnectionIsUsedAgain(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	conn, err := New(server.URL)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	_, _, err = conn.Do(Request("GET", server.URL, nil))
	require.NoError(t, err)
	first := conn.conn
	conn.used = conn.used.Add(-time.Minute)
	_, _, err = conn.Do(Request("GET", server.URL, nil))
	require.NoError(t, err)
	require.Same(t, first, conn.conn)
}

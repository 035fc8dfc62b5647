package wire

import (
	"bufio"
	"io"
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
	}
	conn.Close()
}

// If the server hangs up while the next request is on its way, that is told apart from an answer that breaks off.
func TestAHangUpIsToldApart(t *testing.T) {
	t.Parallel()
	first, rest := "HTTP/1.1 204 No Content\r\n\r\n", ""
	for _, want := range []error{errHungUp, io.ErrUnexpectedEOF} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			for _, answer := range []string{first, rest} {
				_, _ = http.ReadRequest(r)
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
			_ = l.Close()
		}()
		target := "http://" + l.Addr().String()
		conn, err := New(target)
		require.NoError(t, err)
		_, _, err = conn.Do(Request("GET", target, nil))
		require.NoError(t, err)
		_, _, err = conn.Do(Request("GET", target, nil))
		require.ErrorIs(t, err, want)
		rest = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"
	}
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
	_, _, err = conn.Do(Request("GET", server.URL, nil))
	require.NoError(t, err)
	require.Same(t, first, conn.conn)
}

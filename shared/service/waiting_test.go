package service

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/pipes"
)

// When as many connections wait as may, others are accepted as they leave. Those that are refused leave then.
func TestMoreThanMayWaitAreAcceptedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipes.New()
		l := newBounded(p, 0, 1, 1)
		refused := make(chan time.Duration, 2)
		l.refused = func(waited time.Duration) { refused <- waited }
		server := http.Server{ConnState: track, Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(l) }()
		require.NoError(t, p.Dial().Close()) // waits no longer
		ask := func(conn net.Conn, path string) (status int, closes bool) {
			_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode, resp.Close
		}
		seated := p.Dial() // neither does this
		status, _ := ask(seated, "/healthz")
		require.Equal(t, http.StatusNotFound, status)
		began, took := time.Now(), make(chan time.Duration, 2)
		for range 2 {
			go func() {
				conn := p.Dial()
				status, closes := ask(conn, "/")
				if status == http.StatusServiceUnavailable && closes {
					took <- time.Since(began)
				}
				_ = conn.Close()
			}()
		}
		require.Equal(t, time.Second, <-took)
		require.Equal(t, 2*time.Second, <-took, "it has waited for the other to leave")
		require.Equal(t, time.Second, <-refused)
		require.Equal(t, time.Second, <-refused)
		third, fourth := p.Dial(), p.Dial() // one of them waits for its place
		synctest.Wait()
		require.NoError(t, server.Close())
		close(p)
		for _, conn := range []net.Conn{seated, third, fourth} {
			_, err := io.Copy(io.Discard, conn)
			require.NoError(t, err)
		}
	})
}

// A function that is not busy does not make anybody wait.
func TestAFreeSeatIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipes.New()
		l := newBounded(p, 1, 0, 0)
		first, err := func() (net.Conn, error) { go p.Dial(); return l.Accept() }()
		require.NoError(t, err)
		require.NoError(t, first.Close())
		track(first, http.StateNew)
		track(first, http.StateClosed)
		conn := p.Dial()
		synctest.Wait()
		require.NoError(t, l.Close()) // before the server has taken it
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		close(p)
	})
}

// tardy is a connection whose deadline is over when the first byte arrives.
type tardy struct {
	*net.TCPConn
	over bool
}

func (c *tardy) Read(b []byte) (int, error) {
	if !c.over {
		c.over = true
		_, err := c.TCPConn.Read(nil) // nothing is read
		return 0, errors.Join(err, os.ErrDeadlineExceeded)
	}
	return c.TCPConn.Read(b)
}

// A busy function may find a header late, after the patience for it is over. Its client must not take that for a hang-up.
func TestAHeaderThatIsFoundLateIsRead(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	for _, header := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", ""} {
		client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		end, err := l.Accept()
		require.NoError(t, err)
		_, err = io.WriteString(client, header)
		require.NoError(t, err)
		c := boundedConn{Conn: &tardy{TCPConn: end.(*net.TCPConn)}} //nolint:forcetypeassert // it is TCP
		if header == "" {
			_, err = c.readHead()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		} else {
			require.Eventually(t, c.unread, time.Minute, time.Millisecond)
			n, err := c.readHead()
			require.NoError(t, err)
			require.Equal(t, len(header), n)
		}
		require.NoError(t, client.Close())
		require.NoError(t, end.Close())
	}
}

// A connection that is given up is closed for its client at once, also while the goroutine that reads from it waits for its turn.
func TestAClientLearnsOfAHangUpAtOnce(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	end, err := l.Accept()
	require.NoError(t, err)
	reading, turn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if raw, err := end.(*net.TCPConn).SyscallConn(); err == nil {
			_ = raw.Read(func(uintptr) bool { close(reading); <-turn; return true })
		}
	}()
	<-reading
	c := boundedConn{Conn: end}
	require.True(t, c.hangUp())
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	close(turn)
	<-done
}

// failing fails once.
type failing struct {
	pipes.Listener
	failed atomic.Bool
}

func (l *failing) Accept() (net.Conn, error) {
	if !l.failed.Swap(true) {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

// The server learns of errors, and goes on after those that pass.
func TestErrorsOfAListenerAreGivenToTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipes.New()
		l := newBounded(&failing{Listener: p}, 10, 0, 0)
		_, err := l.Accept()
		require.EqualError(t, err, "too many open files")
		for range acceptors { // none of them has ended
			go p.Dial()
			_, err := l.Accept()
			require.NoError(t, err)
		}
		require.NoError(t, l.Close())
		close(p)
	})
}

// A server of NewServer may have another listener.
func TestOtherListenersAreNotBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipes.New()
		server := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		go func() { _ = server.Serve(p) }()
		conn := p.Dial()
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		text, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Contains(t, string(text), "404 page not found")
		close(p)
		require.NoError(t, server.Close())
	})
}

// A connection whose request has arrived keeps its seat, whether or not the server had the time to read it.
func TestARequestThatIsUnreadKeepsItsSeat(t *testing.T) {
	t.Parallel()
	l := newBounded(nil, 2, 0, 0)
	tcp, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close() //nolint:errcheck // the end of the test
	var conns []*boundedConn
	for _, text := range []string{"GET", ""} {
		client, err := net.Dial("tcp", tcp.Addr().String())
		require.NoError(t, err)
		defer client.Close() //nolint:errcheck // the end of the test
		_, err = io.WriteString(client, text)
		require.NoError(t, err)
		conn, err := tcp.Accept()
		require.NoError(t, err)
		defer conn.Close() //nolint:errcheck // it may be closed already
		c := &boundedConn{Conn: conn, listener: l}
		require.True(t, l.sitDown(c))
		track(c, http.StateNew)
		c.since = c.since.Add(-time.Minute)
		conns = append(conns, c)
	}
	for deadline := time.Now().Add(10 * time.Second); !conns[0].unread(); { // until the kernel has carried it over
		require.Less(t, time.Now(), deadline)
	}
	require.True(t, l.free())
	require.False(t, l.free())
	require.True(t, conns[0].seated)
	require.False(t, conns[1].seated)
}

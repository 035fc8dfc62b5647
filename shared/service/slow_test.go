package service_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// While others wait, a client has a second for the body of its request, however often it sends a part, and whether or not its handler reads it.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"/read": http.StatusServiceUnavailable, "/ignore": http.StatusOK} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			inCrowd(t, 1, func(c crowded) {
				slow := c.dial()
				send(c.T, slow, "POST "+path+" HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nsome")
				answered := make(chan response, 1)
				go func() { answered <- c.response(bufio.NewReader(slow)) }()
				go func() {
					time.Sleep(600 * time.Millisecond)
					_, _ = io.WriteString(slow, "more")
				}()
				time.Sleep(300 * time.Millisecond)
				status, took := c.get(c.dial(), "/")
				require.Equal(c, http.StatusOK, status)
				require.Equal(c, time.Second, took)
				got := <-answered
				require.Equal(c, want, got.status)
				require.True(c, got.closes)
				if want == http.StatusServiceUnavailable {
					require.Equal(c, "1", got.header.Get("Retry-After"))
					require.Contains(c, got.body, `"code":"overloaded"`)
				}
				c.requireClosed(slow)
			})
		})
	}
}

// Once the body has arrived, its client waits for the server, and keeps its seat.
func TestARequestWhoseBodyHasArrivedKeepsItsSeat(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]struct{ begin, end string }{
		"known length":   {"Content-Length: 8\r\n\r\nsome", "more"},
		"unknown length": {"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", "4\r\nmore\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCrowd(t, 1, func(c crowded) {
				conn := c.dial()
				send(c.T, conn, "POST /read HTTP/1.1\r\nHost: h\r\n"+request.begin)
				time.Sleep(500 * time.Millisecond)
				send(c.T, conn, request.end)
				time.Sleep(time.Second)
				status, _ := c.get(c.dial(), "/")
				require.Equal(c, http.StatusServiceUnavailable, status)
				c.answer <- struct{}{}
				got := c.response(bufio.NewReader(conn))
				require.Equal(c, http.StatusOK, got.status)
				require.Equal(c, "somemore", got.body)
				require.False(c, got.closes)
			})
		})
	}
}

// A handler may take its time to read a body, too. Its request is answered, and only the connection is lost.
func TestABodyThatIsReadLateIsNotLost(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		conn := c.dial()
		send(c.T, conn, "POST /late HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
		synctest.Wait()
		send(c.T, conn, "body")
		time.Sleep(time.Second)
		status, _ := c.get(c.dial(), "/")
		require.Equal(c, http.StatusOK, status, "it has the seat of the other")
		began := time.Now()
		c.answer <- struct{}{}
		require.Equal(c, "body", c.response(bufio.NewReader(conn)).body)
		c.requireClosed(conn)
		require.Zero(c, time.Since(began))
	})
}

// A header that is too large to be read without a seat has a second for its rest.
func TestTheRestOfALargeHeaderKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		c.get(c.dial(), "/")
		time.Sleep(time.Second)
		slow := c.dial()
		send(c.T, slow, "GET / HTTP/1.1\r\nHost: h\r\nX-Large: "+fmt.Sprintf("%05000d", 0))
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		status, took := c.get(c.dial(), "/")
		require.Equal(c, http.StatusOK, status)
		require.Equal(c, time.Second, took)
		c.requireClosed(slow)
	})
}

// A connection without a seat has five seconds for each header.
func TestSlowHeadersAreCutOffWithoutASeat(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		c.begin()
		conn := c.dial()
		began, ended := time.Now(), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, err := io.WriteString(conn, "G"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		c.requireClosed(conn)
		require.Equal(c, 5*time.Second, time.Since(began))
		<-ended
	})
}

package service

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recorded is a connection over which something has arrived, and nothing will.
type recorded struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *recorded) Read(b []byte) (int, error)      { return c.in.Read(b[:min(len(b), 100)]) }
func (c *recorded) Write(b []byte) (int, error)     { return c.out.Write(b) }
func (c *recorded) SetDeadline(time.Time) error     { return nil }
func (c *recorded) SetReadDeadline(time.Time) error { return nil }
func (c *recorded) Close() error                    { return nil }

// If a connection goes on after a refusal, its next request begins where net/http, which may read it, would begin it. Otherwise what one
// client has sent could be taken for the request of another one behind the same proxy.
func FuzzRefuse(f *testing.F) {
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 05\r\n\r\n\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := &recorded{in: bytes.NewReader(sent)}
		c := &boundedConn{Conn: conn, listener: newBounded(nil, 0, 0, 0)}
		end, err := c.readHead()
		if err != nil {
			return
		}
		open := c.refuse(end, false)
		header, _, _ := strings.Cut(conn.out.String(), "\r\n\r\n")
		require.True(t, strings.HasPrefix(header, "HTTP/1.1 503 Service Unavailable\r\n"), "%q", header)
		require.Contains(t, header, "\r\nRetry-After: 1\r\n")
		if !open { // also if the rest of the body does not arrive
			return
		}
		require.NotContains(t, header, "\r\nConnection: close")
		reader := bufio.NewReader(bytes.NewReader(sent))
		r, err := http.ReadRequest(reader)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, r.Body)
		require.NoError(t, err)
		rest, err := io.ReadAll(reader)
		require.NoError(t, err)
		left, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, string(rest), string(left))
	})
}

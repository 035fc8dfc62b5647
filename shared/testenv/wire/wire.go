// Package wire sends prepared HTTP/1.1 requests over keep-alive connections of its own. Load generators use it in place of
// net/http's client, which costs as much CPU as the measured server: on a small machine the generator would be the bottleneck.
package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// timeout bounds one request, from its first byte to the last one of the response.
const timeout = 30 * time.Second

// Conn is one keep-alive connection. It connects on the first request, and reconnects after an error or when the server has
// closed it, also if it did so after the last response. Not safe for concurrent use: one request is in flight at a time.
type Conn struct {
	address string
	conn    net.Conn
	r       *bufio.Reader
	kept    bool // whether it has answered a request
}

// New returns a connection to the host of an http:// URL. It does not connect.
func New(target string) (*Conn, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("wire: %q is not an http URL", target)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	return &Conn{address: address}, nil
}

// Do sends a request and reads the whole response. It returns the status and the X-Cache header, and drops the body.
func (c *Conn) Do(request []byte) (status int, cache string, err error) {
	a, err := c.send(request)
	return a.status, a.cache, err
}

// answer is what load generators want to know of a response.
type answer struct {
	status            int
	cache, retryAfter string
}

func (c *Conn) send(request []byte) (a answer, err error) {
	if c.conn != nil && c.hungUp() {
		c.Close()
	}
	if c.conn == nil {
		dialer := net.Dialer{Timeout: timeout}
		if c.conn, err = dialer.DialContext(context.Background(), "tcp", c.address); err != nil {
			return a, fmt.Errorf("connect: %w", err)
		}
		c.r, c.kept = bufio.NewReader(c.conn), false
	}
	a, closes, err := c.exchange(request)
	if c.kept && (errors.Is(err, errNoAnswer) || errors.Is(err, syscall.EPIPE)) {
		err = errHungUp
	}
	c.kept = true
	if err != nil || closes {
		c.Close()
	}
	return a, err
}

// errHungUp says that the server closed a connection that had been idle while the request was on its way. Clients send such a request again.
var errHungUp = errors.New("the server closed an idle connection")

var errNoAnswer = errors.New("the server closed the connection without an answer")

// hungUp returns whether the server has closed an idle connection, as HTTP clients find out before they use it. It does not wait: what a
// server does while a client that is busy waits for its turn would look like a hang-up.
func (c *Conn) hungUp() (closed bool) {
	conn, ok := c.conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	closed = true
	_ = raw.Control(func(fd uintptr) { // if it fails, the connection is closed
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = !errors.Is(err, syscall.EAGAIN)
	})
	return closed
}

func (c *Conn) exchange(request []byte) (a answer, closes bool, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return a, true, fmt.Errorf("set deadline: %w", err)
	}
	if _, err := c.conn.Write(request); err != nil {
		return a, true, fmt.Errorf("send: %w", err)
	}
	if _, err := c.r.Peek(1); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return a, true, errNoAnswer
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return a, true, fmt.Errorf("read response: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end below
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return a, true, fmt.Errorf("read response: %w", err)
	}
	return answer{resp.StatusCode, resp.Header.Get("X-Cache"), resp.Header.Get("Retry-After")}, resp.Close, nil
}

// Close closes the connection; the next request opens a new one.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is buffered
		c.conn = nil
	}
}

// Request prepares a request. target is a URL; headers are "Name: value" lines.
func Request(method, target string, body []byte, headers ...string) []byte {
	rest := strings.TrimPrefix(target, "http://")
	host, path, _ := strings.Cut(rest, "/")
	b := make([]byte, 0, 256+len(body))
	b = append(b, method+" /"+path+" HTTP/1.1\r\nHost: "+host+"\r\n"...)
	for _, h := range headers {
		b = append(append(b, h...), "\r\n"...)
	}
	if body != nil {
		b = append(b, "Content-Length: "+strconv.Itoa(len(body))+"\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}

package kafkasource

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// connections sends requests over keep-alive connections, with one request at a time on each. net/http's client has two goroutines for every
// connection and hands each request from one to the other. On the cores that are shared with the functions, that cost more than the
// functions' own servers did. There are no cookies. Safe for concurrent use.
type connections struct {
	life context.Context //nolint:containedctx // of connections being opened; ended by close
	end  context.CancelFunc

	mu   sync.Mutex
	idle map[string][]*connection // by scheme and host
	open map[*connection]struct{}
}

func newConnections() *connections {
	c := &connections{idle: map[string][]*connection{}, open: map[*connection]struct{}{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// connection is a connection that is either idle or used by one request.
type connection struct {
	net.Conn
	key     string
	used    bool // has carried a request before
	r       *bufio.Reader
	request []byte // buffer of the last request
}

// answer is the response to a request.
type answer struct {
	status int
	header http.Header
	body   []byte // its first keptBytes
	last   bool   // the connection cannot be reused
}

// keptBytes is how much of a response body is kept: a dead letter has no more of it.
const keptBytes = 1024

var errClosed = errors.New("the connections are closed")

// maxRedirects is the limit of Vert.x (HttpClientOptions).
const maxRedirects = 16

// post sends a request and reads its whole response within timeout. Header names must be in canonical form, and values must not
// contain control characters. A body that is nil has no Content-Length. Like Vert.x' client (HttpClientImpl), post follows a 303, with a
// GET that has the same headers and no body, and no other redirect of a POST.
func (c *connections) post(target *url.URL, header http.Header, body []byte, timeout time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(c.life, timeout)
	defer cancel()
	got, err := c.send(ctx, http.MethodPost, target, header, body)
	for n := 0; err == nil && n < maxRedirects; n++ {
		location := got.header.Get("Location")
		next, parseErr := target.Parse(location)
		if !redirected(got.status, n > 0) || location == "" || parseErr != nil {
			break
		}
		target = next
		got, err = c.send(ctx, http.MethodGet, target, header, nil)
	}
	return got, err
}

// redirected reports whether a status of a GET, or of a POST, makes Vert.x send a GET elsewhere.
func redirected(status int, get bool) bool {
	switch status {
	case http.StatusSeeOther:
		return true
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return get
	}
	return false
}

// send sends one request. If the sink closed an idle connection, send sends the request again over another one.
func (c *connections) send(ctx context.Context, method string, target *url.URL, header http.Header, body []byte) (answer, error) {
	for {
		conn, err := c.take(ctx, target)
		if err != nil {
			return answer{}, err
		}
		got, begun, err := conn.exchange(ctx, method, target, header, body)
		if err != nil || got.last {
			c.drop(conn)
		} else {
			c.put(conn)
		}
		if err != nil && conn.used && !begun && ctx.Err() == nil {
			continue
		}
		return got, err
	}
}

// take returns the idle connection that was used last, or opens one.
func (c *connections) take(ctx context.Context, target *url.URL) (*connection, error) {
	key := target.Scheme + "://" + target.Host
	c.mu.Lock()
	if n := len(c.idle[key]); n > 0 {
		conn := c.idle[key][n-1]
		c.idle[key] = c.idle[key][:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	raw, err := dial(ctx, target)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: raw, key: key, r: bufio.NewReader(raw)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		_ = raw.Close() // nothing was sent
		return nil, errClosed
	}
	c.open[conn] = struct{}{}
	return conn, nil
}

func dial(ctx context.Context, target *url.URL) (net.Conn, error) {
	host, port := target.Hostname(), target.Port()
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	switch target.Scheme {
	case "http":
		port = orElse(port, "80")
	case "https":
		dialer, port = &tls.Dialer{}, orElse(port, "443")
	default:
		return nil, fmt.Errorf("connect: %q is not an HTTP URL", target)
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func (c *connections) put(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() == nil { // otherwise close has closed it
		conn.used = true
		c.idle[conn.key] = append(c.idle[conn.key], conn)
	}
}

func (c *connections) drop(conn *connection) {
	_ = conn.Close() // nothing is buffered
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// close closes all connections, even those with a request in flight, and prevents new ones.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	for conn := range c.open {
		_ = conn.Close()
	}
	clear(c.open)
	clear(c.idle)
}

// exchange sends one request and reads its response. begun reports whether a response had begun to arrive.
func (c *connection) exchange(
	ctx context.Context, method string, target *url.URL, header http.Header, body []byte,
) (got answer, begun bool, err error) {
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return answer{}, false, fmt.Errorf("set deadline: %w", err)
	}
	c.request = appendRequest(c.request[:0], method, target, header, body)
	_, sendErr := c.Write(c.request)
	if cap(c.request) > maxKeptRequest {
		c.request = nil
	}
	if _, err := c.r.Peek(1); err != nil { // a sink may answer before it has read the whole request
		return answer{}, false, fmt.Errorf("exchange: %w", errors.Join(sendErr, err))
	}
	resp, err := http.ReadResponse(c.r, nil)
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols { // an interim response
		resp, err = http.ReadResponse(c.r, nil)
	}
	if err != nil {
		return answer{}, true, fmt.Errorf("read response: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	got = answer{status: resp.StatusCode, header: resp.Header, last: resp.Close || sendErr != nil}
	if got.body, err = io.ReadAll(io.LimitReader(resp.Body, keptBytes)); err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil { // the status counts even if the body is incomplete
		got.last = true
	}
	return got, true, nil
}

// maxKeptRequest is the largest buffer that an idle connection keeps.
const maxKeptRequest = 64 << 10

func appendRequest(b []byte, method string, target *url.URL, header http.Header, body []byte) []byte {
	b = append(append(append(append(b, method...), ' '), target.RequestURI()...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, target.Host...), "\r\n"...)
	if body != nil {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	for name, values := range header {
		for _, value := range values {
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	return append(append(b, "\r\n"...), body...)
}

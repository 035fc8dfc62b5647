package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// idleTimeout is half the shortest idle timeout of common load balancers (60 s). We close an idle connection before the other side
// does: a request that is sent while the connection is being closed is lost, and is not retried.
const idleTimeout = 30 * time.Second

// redialPause is the wait before the retry of a refused connection. It suffices for a server that restarts.
const redialPause = 50 * time.Millisecond

// newTransport returns a transport for HTTP/1.1 only, because HTTP/2 resends a request if a server refuses the stream. roots are
// the certificate authorities for providers; nil means those of the system.
func newTransport(roots *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, Protocols: protocols, MaxResponseHeaderBytes: maxHeader,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTimeout,
		DialContext: counting((&net.Dialer{}).DialContext),
		// Above TLS, so that only bytes of requests count, not those of the handshake or the close.
		DialTLSContext: counting((&tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}).DialContext),
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func counting(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn}, nil
	}
}

// countedConn counts the bytes written.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

// Write counts the bytes that the connection accepted, even if the write failed.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// wire records whether a request was sent on its connection.
type wire struct {
	conn   *countedConn // nil: the request got none
	before int64        // bytes written on conn before this request
}

// newRequest returns a GET that net/http does not resend. It resends a GET on a reused connection whenever the server closes the
// connection, even if the server has read the request. It never resends a request whose body it cannot rewind, such as an empty
// reader. On the wire the request has no body.
func newRequest(ctx context.Context, target string) (*http.Request, *wire, error) {
	w := &wire{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if w.conn = counted(info.Conn); w.conn != nil {
			w.before = w.conn.written.Load()
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, io.MultiReader())
	if err != nil {
		return nil, nil, err // the error contains the URL: the caller drops it
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible; marketdata/1.0)") // Yahoo refuses clients without one
	req.Header.Set("Accept", "application/json")
	return req, w, nil
}

// counted finds our connection, which is below TLS if there is a proxy.
func counted(conn net.Conn) *countedConn {
	for {
		switch c := conn.(type) {
		case *countedConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// unsent reports whether no byte of the failed request was sent: its dial failed, or its idle connection was closed before anything
// was written.
func (w *wire) unsent(err error) bool {
	if w.conn != nil {
		return w.conn.written.Load() == w.before
	}
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// pause prepares the retry; false if the call's time is up. If one idle connection was closed, it drops the others, too.
func (c *Client) pause(ctx context.Context, w *wire) bool {
	if w.conn != nil {
		c.transport.CloseIdleConnections()
		return ctx.Err() == nil
	}
	timer := time.NewTimer(redialPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

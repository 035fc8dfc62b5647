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

// idleTimeout is half of what the shortest-tempered balancers wait (60 s): we close an idle connection before the other
// side does, since a request that meets its closing is lost and not repeated.
const idleTimeout = 30 * time.Second

// redialPause is how long a refused connection is left alone before the one retry: a server that restarts is back.
const redialPause = 50 * time.Millisecond

// newTransport speaks HTTP/1.1 only: HTTP/2 sends a request again on its own when a server refuses the stream. roots are
// who vouches for providers; nil: the system's.
func newTransport(roots *x509.CertPool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, Protocols: protocols, MaxResponseHeaderBytes: maxHeader,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTimeout,
		DialContext: counting((&net.Dialer{}).DialContext),
		// Above TLS, so that only the requests' bytes count, not the handshake's and not the farewell's.
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

// countedConn counts the bytes that were written.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

// Write counts what the connection took, also of a write that failed.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// wire watches whether a request reached its connection.
type wire struct {
	conn   *countedConn // nil: it never got one
	before int64        // bytes written on conn before this request
}

// newRequest makes a GET that net/http will not repeat by itself. It repeats a GET on a reused connection whenever the
// server hangs up, also if the server has read it; it never repeats a request with a body that it cannot rewind, and an
// empty reader is such a body. On the wire the request has none.
func newRequest(ctx context.Context, target string) (*http.Request, *wire, error) {
	w := &wire{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if w.conn = counted(info.Conn); w.conn != nil {
			w.before = w.conn.written.Load()
		}
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, io.MultiReader())
	if err != nil {
		return nil, nil, err // its text holds the URL: the caller drops it
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible; marketdata/1.0)") // Yahoo refuses clients that name none
	req.Header.Set("Accept", "application/json")
	return req, w, nil
}

// counted finds our connection, which lies under TLS where the way leads through a proxy.
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

// unsent reports whether no byte of the failed request was sent: its dial failed, or the idle connection it was given
// turned out to be closed before anything was written.
func (w *wire) unsent(err error) bool {
	if w.conn != nil {
		return w.conn.written.Load() == w.before
	}
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// pause prepares the retry; false if the call's time is up. Where one idle connection was closed the others will be, too.
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

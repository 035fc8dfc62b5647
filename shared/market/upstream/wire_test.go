package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// line is a network on which dials and connections can fail.
type line struct {
	mu      sync.Mutex
	refuse  int // dials to refuse
	dials   int
	current *lineConn
}

type lineConn struct {
	net.Conn
	dead atomic.Bool // like an idle connection that the other side has closed: writes fail
}

func (c *lineConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(b)
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials++
	if l.refuse > 0 {
		l.refuse--
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	l.current = &lineConn{Conn: conn}
	return l.current, err
}

type wireBundle struct {
	client   *Client
	line     *line
	requests atomic.Int64
	hangUp   atomic.Bool // the server reads the request and closes the connection
}

func setupWire(t *testing.T) *wireBundle {
	t.Helper()
	b := &wireBundle{line: &line{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.ProtoMajor != 1 {
			http.Error(w, "a GET with a body", http.StatusBadRequest)
		}
		if b.hangUp.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)
	b.client = New(Config{BaseURL: server.URL + "/", Timeout: 20 * time.Second}, KeyPlace{})
	b.client.transport.DialContext = counting(b.line.dial)
	t.Cleanup(b.client.transport.CloseIdleConnections)
	return b
}

func (b *wireBundle) get(t *testing.T) error {
	t.Helper()
	a, err := b.client.Get(t.Context(), "/x", nil)
	if err == nil {
		require.Equal(t, http.StatusOK, a.Status)
	}
	return err
}

func TestClosedIdleConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	b := setupWire(t)
	require.NoError(t, b.get(t))
	require.NoError(t, b.get(t))
	require.Equal(t, 1, b.line.dials, "connections are reused")
	b.line.current.dead.Store(true)
	require.NoError(t, b.get(t))
	require.Equal(t, 2, b.line.dials)
	require.EqualValues(t, 3, b.requests.Load())
}

// net/http by itself would resend such a request.
func TestSentRequestIsNotResent(t *testing.T) {
	t.Parallel()
	b := setupWire(t)
	require.NoError(t, b.get(t))
	b.hangUp.Store(true)
	require.Equal(t, "provider_unavailable", fault.CodeOf(b.get(t)))
	require.Equal(t, 1, b.line.dials, "not resent on the reused connection")
	require.EqualValues(t, 2, b.requests.Load())
	require.Equal(t, "provider_unavailable", fault.CodeOf(b.get(t)))
	require.EqualValues(t, 3, b.requests.Load(), "not resent on a new one")
}

func TestRefusedDialIsRetriedOnce(t *testing.T) {
	t.Parallel()
	b := setupWire(t)
	b.line.refuse = 1
	require.NoError(t, b.get(t))
	require.Equal(t, 2, b.line.dials)

	b = setupWire(t)
	b.line.refuse = 100
	err := b.get(t)
	require.Equal(t, "provider_unavailable", fault.CodeOf(err))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, 2, b.line.dials)
	require.Zero(t, b.requests.Load())
}

func TestNoRetryAfterTheTimeout(t *testing.T) {
	t.Parallel()
	b := setupWire(t)
	b.client.timeout = redialPause / 2
	b.line.refuse = 100
	require.Equal(t, "provider_unavailable", fault.CodeOf(b.get(t)))
	require.Equal(t, 1, b.line.dials)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte(r.Proto))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := New(Config{BaseURL: server.URL, Timeout: 20 * time.Second}, KeyPlace{})
	_, err := c.Get(t.Context(), "/", nil)
	require.Equal(t, "provider_unavailable", fault.CodeOf(err), "the server's certificate is not trusted")
	require.Zero(t, requests.Load())

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c.transport = newTransport(roots)
	a, err := c.Get(t.Context(), "/", nil)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1", string(a.Body))
	_, err = c.Get(t.Context(), "/", nil)
	require.Equal(t, "provider_unavailable", fault.CodeOf(err))
	require.EqualValues(t, 2, requests.Load(), "a request over TLS is not resent either")
}

// A burst reuses the connections of the burst before it: a dial costs more than the call.
func TestBurstReusesConnections(t *testing.T) {
	t.Parallel()
	const calls = 50
	var opened atomic.Int64
	arrived, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := New(Config{BaseURL: server.URL, Timeout: 20 * time.Second}, KeyPlace{})
	t.Cleanup(c.transport.CloseIdleConnections)
	for range 3 {
		var wg sync.WaitGroup
		errs := make([]error, calls)
		for i := range calls {
			wg.Go(func() { _, errs[i] = c.Get(t.Context(), "/q", nil) })
		}
		for range calls {
			<-arrived
		}
		for range calls {
			release <- struct{}{}
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	require.EqualValues(t, calls, opened.Load())
}

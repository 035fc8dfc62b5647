package service_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/service"
	"marketdata/shared/testenv/pipes"
)

// serve runs h on a bounded listener. dial returns the client's end of a new connection.
func serve(t *testing.T, h http.Handler) (dial func() net.Conn) {
	t.Helper()
	p := pipes.New()
	server := service.NewServer(h, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(service.Bounded(p, service.Seats)) }()
	t.Cleanup(func() { close(p); _ = server.Close() })
	return p.Dial
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
}

func TestAClientThatStopsReadingIsDisconnected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan time.Duration, 1)
		dial := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			began := time.Now()
			_, err := w.Write(make([]byte, 8<<20))
			if err != nil {
				failed <- time.Since(began)
			}
		}))
		c := dial()
		send(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		require.LessOrEqual(t, <-failed, 40*time.Second)
		_ = c.Close()

		// A client that reads one byte per second is disconnected, too.
		c = dial()
		send(t, c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		trickled := make(chan struct{})
		go func() {
			defer close(trickled)
			for {
				if _, err := c.Read(make([]byte, 1)); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		require.LessOrEqual(t, <-failed, 40*time.Second)
		_ = c.Close()
		<-trickled
	})
}

// The bound holds for each answer on a connection, and a handler may set another.
func TestAClientThatStopsReadingLaterIsDisconnected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ own, want time.Duration }{
		"bound of the listener": {0, 40 * time.Second}, "deadline of the handler": {30 * time.Second, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failed := make(chan time.Duration, 1)
				conn := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/short" {
						return
					}
					began := time.Now()
					if c.own > 0 {
						_ = http.NewResponseController(w).SetWriteDeadline(began.Add(c.own))
					}
					if _, err := w.Write(make([]byte, 8<<20)); err != nil {
						failed <- time.Since(began)
					}
				}))()
				send(t, conn, "GET /short HTTP/1.1\r\nHost: h\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				send(t, conn, "GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
				select {
				case after := <-failed:
					require.Equal(t, c.want, after)
				case <-time.After(5 * time.Minute):
					require.Fail(t, "the client holds the connection for ever")
				}
				_ = conn.Close()
			})
		})
	}
}

// What the kernel keeps for a client that does not read is limited.
func TestSendBufferIsLimited(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	var written atomic.Int64
	_, url, stop, ended := running(t, time.Second, func(s *service.Service) {
		s.Mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
			service.LimitSendBuffer(r, limit)
			for {
				n, err := w.Write(make([]byte, 8<<10))
				if err != nil {
					return
				}
				written.Add(int64(n))
			}
		})
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(limit)) //nolint:forcetypeassert // dialled as TCP
	send(t, conn, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
	before := int64(0)
	require.Eventually(t, func() bool {
		now := written.Load()
		stands := now > 0 && now == before
		before = now
		return stands
	}, 10*time.Second, 50*time.Millisecond)
	require.Less(t, before, int64(8*limit))
	require.NoError(t, conn.Close())
	stop()
	require.NoError(t, <-ended)
}

func TestLongAnswersAndQuietStreamsAreNotCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			_ = control.SetReadDeadline(time.Time{})
			for range 5 {
				_, _ = w.Write(make([]byte, 1<<20))
				_ = control.Flush()
				select {
				case <-time.After(3 * time.Minute):
				case <-r.Context().Done():
					return
				}
			}
			_, _ = io.WriteString(w, "end")
		})
		c := serve(t, stream)()
		send(t, c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(&slow{c}), nil)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read whole
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Len(t, body, 5<<20+len("end"))
		require.True(t, bytes.HasSuffix(body, []byte("end")))
	})
}

// slow is a client that reads 32 KiB per second.
type slow struct{ net.Conn }

func (s *slow) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b[:min(len(b), 4<<10)])
	time.Sleep(time.Second * time.Duration(n) / (32 << 10))
	return n, err
}

type thing struct {
	Body struct {
		N int `json:"n" minimum:"1"`
	}
}

func TestIncompleteBodiesAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		api.Handle(api.New(s, "test", ""), huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
			func(_ context.Context, in *thing) (*thing, error) { return in, nil })
		dial := serve(t, s.Handler())
		for name, request := range map[string]string{
			"never ends":      "POST /things HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
			"chunk cut short": "POST /things HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"n\"",
			"broken chunk":    "POST /things HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		} {
			c, began := dial(), time.Now()
			send(t, c, request)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err, name)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err, name)
			require.NoError(t, resp.Body.Close(), name)
			require.Equal(t, http.StatusBadRequest, resp.StatusCode, name)
			require.Contains(t, string(body), `"code":"incomplete_request"`, name)
			require.LessOrEqual(t, time.Since(began), 31*time.Second, name)
			_ = c.Close()
		}
	})
}

// A client that does not finish the head of its request is disconnected long before one that sends a body slowly.
func TestSlowHeadersAreCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, began := serve(t, http.NotFoundHandler())(), time.Now()
		send(t, c, "GET / HTTP/1.1\r\nHost: h\r\n")
		_, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, time.Since(began))
		_ = c.Close()
	})
}

// The time limit is for receiving a request, not for handling it.
func TestAHandlerMayTakeLongerThanTheReadTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		api.Handle(api.New(s, "test", ""), huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
			func(ctx context.Context, in *thing) (*thing, error) {
				select {
				case <-time.After(time.Minute):
					return in, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})
		c := serve(t, s.Handler())()
		send(t, c, "POST /things HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"n\":1}")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		_ = c.Close()
	})
}

// running starts a service on a real port.
func running(t *testing.T, timeout time.Duration, mount func(*service.Service)) (s *service.Service, url string, stop func(), ended chan error) {
	t.Helper()
	s = service.New(service.Config{Host: "127.0.0.1", ShutdownTimeout: timeout}, slog.New(slog.DiscardHandler))
	mount(s)
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := service.Listen(ctx, service.Config{Host: "127.0.0.1"}, service.Seats)
	require.NoError(t, err)
	ended = make(chan error, 1)
	go func() { ended <- s.Run(ctx, listener) }()
	return s, "http://" + listener.Addr().String(), cancel, ended
}

func TestAStopWaitsForRequestsInFlight(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	_, url, stop, ended := running(t, 5*time.Second, func(s *service.Service) {
		s.Mux.HandleFunc("GET /slow", func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	})
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Get(url + "/slow")
		if err != nil {
			answered <- 0
			return
		}
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-entered
	stop()
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-ended)
}

// Load balancers must learn of a stop while the function still serves.
func TestNotReadyFromTheSignalOn(t *testing.T) {
	t.Parallel()
	c := service.Config{Host: "127.0.0.1", ShutdownTimeout: time.Second, ShutdownDelay: time.Hour}
	s := service.New(c, slog.New(slog.DiscardHandler))
	listener, err := service.Listen(t.Context(), c, service.Seats)
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // the function is still serving when the test ends
	ctx, stop := context.WithCancel(t.Context())
	go func() { _ = s.Run(ctx, listener) }()
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read whole
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	status, _ := get("/readyz")
	require.Equal(t, http.StatusOK, status)
	stop()
	for _, path := range []string{"/readyz", "/_/ready"} {
		require.Eventually(t, func() bool {
			status, body := get(path)
			return status == http.StatusServiceUnavailable && strings.Contains(body, `"stopping"`)
		}, 5*time.Second, time.Millisecond)
	}
	status, _ = get("/healthz")
	require.Equal(t, http.StatusOK, status, "it is alive, and serves")
}

// Requests in flight, and what is closed after them, share one budget. A request that hangs is cancelled.
func TestOneBudgetForTheWholeStop(t *testing.T) {
	t.Parallel()
	entered, cancelled := make(chan struct{}), make(chan error, 1)
	const budget = 500 * time.Millisecond
	s, url, stop, ended := running(t, budget, func(s *service.Service) {
		s.Mux.HandleFunc("GET /hangs", func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			cancelled <- r.Context().Err()
		})
	})
	require.Equal(t, budget, s.Left(), "before the stop all of it is left")
	go func() {
		resp, err := http.Get(url + "/hangs")
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	began := time.Now()
	stop()
	require.NoError(t, <-ended, "a stop is no failure")
	require.ErrorIs(t, <-cancelled, context.Canceled)
	require.LessOrEqual(t, s.Left(), budget/5)
	s.Close(func() { select {} }) // a pool whose connection is never returned
	s.Close(func() {})
	require.Less(t, time.Since(began), 4*budget)
	require.Zero(t, s.Left())
}

func TestAPortInUseIsReported(t *testing.T) {
	t.Parallel()
	l, err := service.Listen(t.Context(), service.Config{Host: "127.0.0.1"}, service.Seats)
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // nothing was accepted
	addr, ok := l.Addr().(*net.TCPAddr)
	require.True(t, ok)
	_, err = service.Listen(t.Context(), service.Config{Host: "127.0.0.1", Port: addr.Port}, service.Seats)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

package service_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/problem"
	"marketdata/shared/service"
	"marketdata/shared/testenv/pipes"
)

// crowded has a server with a few seats, in a bubble of synctest. The path says whether its handler waits for answer, and what it reads of the
// body before that:
//
//	/work, /ignore   nothing; /ignore does not wait
//	/late            the first byte
//	/read, all else  the whole; only /read waits
type crowded struct {
	*testing.T
	dial   func() net.Conn
	answer chan struct{}
}

func inCrowd(t *testing.T, seats int, test func(c crowded)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, c := pipes.New(), crowded{T: t, answer: make(chan struct{})}
		c.dial = func() net.Conn {
			conn := p.Dial()
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		server := service.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path := r.URL.Path
			var body [2][]byte
			var err error
			switch path {
			case "/work", "/ignore":
			case "/late":
				body[0], err = io.ReadAll(io.LimitReader(r.Body, 1))
			default:
				body[0], err = io.ReadAll(r.Body)
			}
			if err == nil && (path == "/work" || path == "/late" || path == "/read") {
				select {
				case <-c.answer:
				case <-r.Context().Done():
				}
			}
			if err == nil && path == "/late" {
				body[1], err = io.ReadAll(r.Body)
			}
			if err != nil {
				problem.Write(w, r, err)
				return
			}
			w.Header().Set("X-Method", r.Method)
			_, _ = w.Write(slices.Concat(body[:]...))
		}), slog.New(slog.DiscardHandler))
		go func() { _ = server.Serve(service.Bounded(p, seats)) }()
		t.Cleanup(func() { close(c.answer); close(p); _ = server.Close() })
		test(c)
	})
}

// begin opens a connection that carries a request.
func (c crowded) begin() net.Conn {
	c.Helper()
	conn := c.dial()
	send(c.T, conn, "GET /work HTTP/1.1\r\nHost: h\r\n\r\n")
	synctest.Wait()
	return conn
}

// response is a response that was read to its end.
type response struct {
	status int
	header http.Header
	closes bool
	body   string
}

func (c crowded) response(r *bufio.Reader) response {
	c.Helper()
	resp, err := http.ReadResponse(r, nil)
	require.NoError(c, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(c, err)
	require.NoError(c, resp.Body.Close())
	return response{resp.StatusCode, resp.Header, resp.Close, string(body)}
}

// get sends a request, and returns the status and how long it took.
func (c crowded) get(conn net.Conn, path string) (status int, took time.Duration) {
	c.Helper()
	began := time.Now()
	send(c.T, conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
	return c.response(bufio.NewReader(conn)).status, time.Since(began)
}

func (c crowded) requireClosed(conn net.Conn) {
	c.Helper()
	_, err := io.Copy(io.Discard, conn)
	require.NoError(c, err)
}

// Connections that send nothing, or half of a header, or are idle after an answer, keep no request out, however new they are.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	inCrowd(t, 3, func(c crowded) {
		idle := c.dial()
		c.get(idle, "/")
		synctest.Wait()
		silent := c.dial()
		synctest.Wait()
		slow := c.dial()
		send(c.T, slow, "GET / HTTP/1.1\r\nHost: h\r\nX-Slow:")
		for range 50 {
			c.dial()
		}
		var last net.Conn
		for _, gone := range []net.Conn{idle, silent, slow} { // the one that has been quiet for longest first
			began := time.Now()
			last = c.begin()
			c.requireClosed(gone)
			require.LessOrEqual(c, time.Since(began), time.Second)
		}
		status, _ := c.get(c.dial(), "/")
		require.Equal(c, http.StatusServiceUnavailable, status, "there are no more than three seats")
		require.NoError(c, last.Close())
		synctest.Wait()
		status, _ = c.get(c.dial(), "/")
		require.Equal(c, http.StatusOK, status)
	})
}

// A connection keeps its seat while it carries a request, and for a second after the answer.
func TestARequestWaitsForASeat(t *testing.T) {
	t.Parallel()
	inCrowd(t, 2, func(c crowded) {
		busy, leaves := c.begin(), c.begin()
		taken := make(chan time.Duration)
		began := time.Now()
		for range 2 {
			go func() {
				status, _ := c.get(c.dial(), "/")
				if status == http.StatusOK {
					taken <- time.Since(began)
				}
			}()
			synctest.Wait()
		}
		require.NoError(c, leaves.Close())
		require.Zero(c, <-taken, "the first in line has the seat")
		c.answer <- struct{}{}
		synctest.Wait()
		require.Equal(c, time.Second, <-taken)
		require.Equal(c, http.StatusOK, c.response(bufio.NewReader(busy)).status)
	})
}

// A request that finds no seat is refused after a second, and its client may come back over the same connection.
func TestRequestsBeyondTheSeatsAreRefused(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		busy := c.begin()
		conn := c.dial()
		began := time.Now()
		send(c.T, conn, "POST / HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nContent-Length: 41\r\n\r\nGET /body HTTP/1.1\r\nHost: h\r\n\r\nstill")
		r := bufio.NewReader(conn)
		resp := c.response(r)
		require.Equal(c, time.Second, time.Since(began))
		require.Equal(c, http.StatusServiceUnavailable, resp.status)
		require.Equal(c, "1", resp.header.Get("Retry-After"))
		require.Equal(c, "application/problem+json", resp.header.Get("Content-Type"))
		require.Equal(c, "mine", resp.header.Get("X-Request-Id"))
		require.Equal(c, "nosniff", resp.header.Get("X-Content-Type-Options"))
		require.Equal(c, "no-store", resp.header.Get("Cache-Control"))
		require.False(c, resp.closes)
		var p problem.Problem
		require.NoError(c, json.Unmarshal([]byte(resp.body), &p))
		require.Equal(c, problem.Problem{
			Type: "about:blank", Title: "Service Unavailable", Status: 503, Detail: "too many requests are in flight", Code: "overloaded", RequestID: "mine",
		}, p)

		send(c.T, conn, "body") // of the request that was refused: 5 bytes are missing
		require.NoError(c, busy.Close())
		synctest.Wait()
		send(c.T, conn, ".POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
		resp = c.response(r)
		require.Equal(c, http.StatusOK, resp.status)
		require.Equal(c, "POST", resp.header.Get("X-Method"), "nothing is left of the body")
		require.Equal(c, "hello", resp.body, "what has arrived with the header is not lost")
	})
}

// A client that comes back within a second keeps its seat.
func TestAnIdleConnectionKeepsItsSeatForAWhile(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		idle, other := c.dial(), c.dial()
		c.get(idle, "/")
		time.Sleep(999 * time.Millisecond)
		refused := make(chan int)
		go func() {
			status, _ := c.get(other, "/")
			refused <- status
		}()
		synctest.Wait()
		send(c.T, idle, "GET /work HTTP/1.1\r\nHost: h\r\n\r\n")
		require.Equal(c, http.StatusServiceUnavailable, <-refused)
	})
}

// So does one whose request has begun to arrive, for a second from then on, whatever else arrives.
func TestAConnectionThatBeginsARequestKeepsItsSeatForAWhile(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		slow := c.dial()
		c.get(slow, "/")
		statuses := make(chan int)
		ask := func() {
			conn := c.dial()
			go func() {
				status, _ := c.get(conn, "/")
				statuses <- status
			}()
		}
		time.Sleep(500 * time.Millisecond)
		ask()
		time.Sleep(400 * time.Millisecond)
		send(c.T, slow, "GET / HTTP/1.1\r\n")
		time.Sleep(100 * time.Millisecond)
		ask()
		time.Sleep(400 * time.Millisecond)
		send(c.T, slow, "Host: h\r\n")
		require.Equal(c, http.StatusServiceUnavailable, <-statuses, "the seat is taken")
		require.Equal(c, http.StatusOK, <-statuses, "it was taken for long enough")
		c.requireClosed(slow)
	})
}

func TestTheRefusalOfAHEADHasNoBody(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		c.begin()
		conn := c.dial()
		send(c.T, conn, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodHead})
		require.NoError(c, err)
		require.NoError(c, resp.Body.Close())
		require.Equal(c, "HTTP/1.1", resp.Proto)
		require.Equal(c, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(c, http.StatusServiceUnavailable, c.response(r).status)
	})
}

// The connection ends with a refusal if where its next request begins is not sure, or not worth waiting for.
func TestARefusalMayEndTheConnection(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"asked for":        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"HTTP/1.0":         "GET / HTTP/1.0\r\n\r\n",
		"chunked body":     "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"large body":       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n",
		"body on demand":   "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
		"two lengths":      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"no HTTP":          "hello\r\n\r\n",
		"two ends":         "GET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\r\n\r\n",
		"header too large": "GET / HTTP/1.1\r\nHost: h\r\nX-Large: " + fmt.Sprintf("%05000d", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCrowd(t, 1, func(c crowded) {
				c.begin()
				conn := c.dial()
				go func() { _, _ = io.WriteString(conn, request) }() // not all of it is taken
				r := bufio.NewReader(conn)
				resp := c.response(r)
				require.Equal(c, http.StatusServiceUnavailable, resp.status)
				require.True(c, resp.closes)
				began := time.Now()
				_, err := io.Copy(io.Discard, r)
				require.NoError(c, err)
				require.LessOrEqual(c, time.Since(began), time.Second)
			})
		})
	}
}

// Health checks and metrics have seats of their own, so that a function that is busy is not taken for dead.
func TestABusyServerAnswersHealthChecks(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		c.begin()
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/_/health", "/_/ready"} {
			status, took := c.get(c.dial(), path)
			require.Equal(c, http.StatusOK, status, path)
			require.Zero(c, took, path)
		}
		status, _ := c.get(c.dial(), "/healthzz")
		require.Equal(c, http.StatusServiceUnavailable, status)
	})
}

// Ticks have them, too: without ticks, a crowd of clients would keep jobs from running.
func TestABusyServerTakesTicks(t *testing.T) {
	t.Parallel()
	inCrowd(t, 1, func(c crowded) {
		c.begin()
		for request, want := range map[string]int{
			"POST / HTTP/1.1\r\nHost: h\r\nCe-Type: dev.knative.sources.ping\r\n\r\n":     http.StatusOK,
			"POST / HTTP/1.1\r\nx-topic: cron-function\r\nHost: h\r\n\r\n":                http.StatusOK,
			"POST / HTTP/1.1\r\nHost: h\r\nCe-Type: dev.knative.kafka.event\r\n\r\n":      http.StatusServiceUnavailable,
			"POST /jobs HTTP/1.1\r\nHost: h\r\nCe-Type: dev.knative.sources.ping\r\n\r\n": http.StatusServiceUnavailable,
			"GET / HTTP/1.1\r\nHost: h\r\nCe-Type: dev.knative.sources.ping\r\n\r\n":      http.StatusServiceUnavailable,
			"POST / HTTP/1.1\r\nHost: h\r\nCe-Type: dev.knative.sources.ping2\r\n\r\n":    http.StatusServiceUnavailable,
		} {
			conn := c.dial()
			send(c.T, conn, request)
			require.Equal(c, want, c.response(bufio.NewReader(conn)).status, request)
		}
	})
}

// Refusals of requests that were never read count like others, and are summed up in the log.
func TestRefusalsWithoutASeatAreCounted(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	listener, err := service.Listen(ctx, service.Config{Host: "127.0.0.1"}, 0)
	require.NoError(t, err)
	var logs bytes.Buffer
	s := service.New(service.Config{}, slog.New(slog.NewJSONHandler(&logs, nil)))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listener) }()
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode, string(body)
	}
	status, _ := get("/things")
	require.Equal(t, http.StatusServiceUnavailable, status)
	_, text := get("/metrics")
	require.Contains(t, text, `http_requests_total{route="none",status="503"} 1`)
	stop()
	require.NoError(t, <-ended)
	require.Contains(t, logs.String(), `"msg":"requests refused: overloaded","route":"none","requests":1,`)
}

package kafkasource

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func mustParse(t *testing.T, target string) *url.URL {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	return u
}

// counting starts a server with h that counts its connections.
func counting(t *testing.T, h http.HandlerFunc) (server *httptest.Server, opened *atomic.Int64) {
	t.Helper()
	opened = &atomic.Int64{}
	server = httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, opened
}

func TestPostSendsTheRequestUnchangedAndKeepsTheConnection(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300_000)
	server, opened := counting(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.RequestURI() != "/a%20b?c=d" || r.Header.Get("Ce-Id") != "caf\xe9" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusEarlyHints) // an interim response
		w.Header().Set("Kne-X", "y")
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write(body) // an error means that the caller went away
	})
	c := newConnections()
	defer c.close()
	header := http.Header{"Ce-Id": {"caf\xe9"}}
	for _, body := range []string{"", "short", long} {
		got, err := c.post(mustParse(t, server.URL+"/a%20b?c=d"), header, []byte(body), time.Minute)
		require.NoError(t, err)
		require.Equal(t, http.StatusConflict, got.status)
		require.Equal(t, body[:min(len(body), keptBytes)], string(got.body))
		require.Equal(t, "y", got.header.Get("Kne-X"))
	}
	require.EqualValues(t, 1, opened.Load())
}

// As Vert.x' client: a 303 is followed with a GET, another redirect of a POST is not.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status   int
		location string
		want     []string
	}{
		"see other":            {303, "/there?x=y", []string{"POST / body a/b", "GET /there?x=y  a/b"}},
		"without a location":   {303, "", []string{"POST / body a/b"}},
		"moved permanently":    {301, "/there", []string{"POST / body a/b"}},
		"temporary":            {307, "/there", []string{"POST / body a/b"}},
		"for ever":             {303, "/", append([]string{"POST / body a/b"}, slices.Repeat([]string{"GET /  a/b"}, maxRedirects)...)},
		"the GET may be moved": {303, "/moved", []string{"POST / body a/b", "GET /moved  a/b", "GET /there  a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			server, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = append(got, r.Method+" "+r.RequestURI+" "+string(body)+" "+r.Header.Get("Content-Type"))
				switch r.URL.Path {
				case "/there":
				case "/moved":
					w.Header().Set("Location", "/there")
					w.WriteHeader(http.StatusMovedPermanently)
				default:
					w.Header().Set("Location", c.location)
					w.WriteHeader(c.status)
				}
			})
			conns := newConnections()
			defer conns.close()
			_, err := conns.post(mustParse(t, server.URL), http.Header{"Content-Type": {"a/b"}}, []byte("body"), time.Minute)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestConnectionClosedWhileIdleIsNotAnError(t *testing.T) {
	t.Parallel()
	server, opened := counting(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := newConnections()
	defer c.close()
	for range 3 {
		got, err := c.post(mustParse(t, server.URL), nil, []byte("x"), time.Minute)
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, got.status)
		server.CloseClientConnections()
	}
	require.EqualValues(t, 3, opened.Load())
}

func TestConnectionIsNotReusedAfterConnectionClose(t *testing.T) {
	t.Parallel()
	server, opened := counting(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	c := newConnections()
	defer c.close()
	for range 2 {
		_, err := c.post(mustParse(t, server.URL), nil, nil, time.Minute)
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, opened.Load())
}

// torn starts a server that answers each request with the same bytes and then closes the connection.
func torn(t *testing.T, answer string) (target string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				requests.Add(1)
				_, _ = io.WriteString(conn, answer) // the client may be gone
			}
			_ = conn.Close()
		}
	}()
	return "http://" + l.Addr().String(), requests
}

func TestIncompleteResponses(t *testing.T) {
	t.Parallel()
	c := newConnections()
	defer c.close()
	for name, answer := range map[string]string{"empty": "", "half a header": "HTTP/1.1 204 No", "not HTTP": "hello\r\n\r\n"} {
		target, requests := torn(t, answer)
		_, err := c.post(mustParse(t, target), nil, nil, time.Minute)
		require.Error(t, err, name)
		require.EqualValues(t, 1, requests.Load(), "%s: no retry on a fresh connection", name)
	}
	target, _ := torn(t, "HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 100\r\n\r\nbegin")
	got, err := c.post(mustParse(t, target), nil, nil, time.Minute)
	require.NoError(t, err)
	require.Equal(t, 422, got.status)
	require.Equal(t, "begin", string(got.body))
}

func TestPostEndsAtItsTimeoutAndOnClose(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server, _ := counting(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c := newConnections()
	_, err := c.post(mustParse(t, server.URL), nil, nil, 50*time.Millisecond)
	require.ErrorContains(t, err, "i/o timeout")

	cut, target := make(chan error), mustParse(t, server.URL)
	go func() {
		_, err := c.post(target, nil, nil, time.Minute)
		cut <- err
	}()
	require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.open) == 1 }, 10*time.Second, time.Millisecond)
	c.close()
	require.Error(t, <-cut)
	_, err = c.post(mustParse(t, server.URL), nil, nil, time.Minute)
	require.Error(t, err, "no requests after close")
	for _, target := range []string{"ftp://127.0.0.1/", "http://127.0.0.1:1/"} {
		_, err := newConnections().post(mustParse(t, target), nil, nil, time.Minute)
		require.Error(t, err)
	}
}

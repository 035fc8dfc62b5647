package balance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/balance"
)

func TestReplicasTakeTurns(t *testing.T) {
	t.Parallel()
	served := map[string]int{}
	closed := make(chan struct{}, 2)
	var urls []string
	for _, name := range []string{"a", "b"} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			served[name+" "+r.URL.RequestURI()]++
		}))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				closed <- struct{}{}
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	p, err := balance.New(urls, 0)
	require.NoError(t, err)
	for range 6 {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/a%2Fb?x=%zz", nil))
		require.Equal(t, http.StatusOK, w.Code)
	}
	require.Equal(t, map[string]int{"a /a%2Fb?x=%zz": 3, "b /a%2Fb?x=%zz": 3}, served)

	p.Close() // otherwise the servers would wait for the client to go
	<-closed
	<-closed
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	_, err := balance.New([]string{"http://127.0.0.1:1", "http://[::1"}, 0)
	require.ErrorContains(t, err, "[::1")
}

// A replica that is not ready gets no requests until it is, and a function without a ready replica is refused at once.
func TestReadinessDecides(t *testing.T) {
	t.Parallel()
	ready := map[string]*atomic.Bool{"a": {}, "b": {}}
	var urls []string
	for _, name := range []string{"a", "b"} {
		ready[name].Store(true)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" && !ready[name].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(server.Close)
		urls = append(urls, server.URL)
	}
	p, err := balance.New(urls, 0)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	serving := func() string { // two requests in a row
		var got []string
		for range 2 {
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x", nil))
			got = append(got, fmt.Sprintf("%d%s", w.Code, w.Body))
		}
		slices.Sort(got)
		return strings.Join(got, " ")
	}
	for _, row := range []struct {
		name string
		a, b bool
		want string
	}{
		{"both", true, true, "200a 200b"}, {"one", false, true, "200b 200b"}, {"none", false, false, "503 503"}, {"again", true, true, "200a 200b"},
	} {
		ready["a"].Store(row.a)
		ready["b"].Store(row.b)
		require.Eventually(t, func() bool { return serving() == row.want }, 5*time.Second, 20*time.Millisecond, row.name)
	}
}

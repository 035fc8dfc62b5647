package balance_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

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

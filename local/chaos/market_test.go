package chaos

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// ask asks a provider for the price of bitcoin.
func ask(m *market, provider string) (status int, body string) {
	path := map[string]string{
		"binance":  "/binance/api/v3/ticker/price?symbol=BTCUSDT",
		"coinbase": "/coinbase/products/BTC-USD/ticker",
	}[provider]
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	text, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(text)
}

// A provider goes on to answer rubbish when the fault of another one ends: it did not, and the checker took its good answers for rubbish.
func TestFaultsOfProvidersEndOneByOne(t *testing.T) {
	t.Parallel()
	m := newMarket(1)
	endBinance, endCoinbase := m.spoil("binance", "error_5xx"), m.spoil("coinbase", "html")
	endBinance()
	status, _ := ask(m, "binance")
	require.Equal(t, http.StatusOK, status)
	_, body := ask(m, "coinbase")
	require.Contains(t, body, "<html")
	require.Len(t, m.served, 1, "what was served as good")
	endCoinbase()
	_, body = ask(m, "coinbase")
	require.NotContains(t, body, "<html")
	require.Len(t, m.served, 2)
}

// Whatever a provider answers while a fault begins or ends, every good answer is kept, and no other.
func TestAnswersAreKeptWhileFaultsBeginAndEnd(t *testing.T) {
	t.Parallel()
	m := newMarket(1)
	good := make(chan int, 4)
	var all sync.WaitGroup
	for range cap(good) {
		all.Go(func() {
			n := 0
			for range 500 {
				if status, _ := ask(m, "binance"); status == http.StatusOK {
					n++
				}
			}
			good <- n
		})
	}
	for range 200 {
		m.spoil("binance", "error_5xx")()
	}
	all.Wait()
	close(good)
	want := 0
	for n := range good {
		want += n
	}
	require.Len(t, m.served, want)
}

//go:build integration

package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/exchange"
)

// providerKeys are unmistakable keys. One has characters that URLs and JSON escape.
var providerKeys = map[string]string{
	"alpha_vantage": "QX7KEYALPHAVANTAGE93", "finnhub": "qx7Key/Finn&hub+93==", "twelve_data": "9e3c0f7717aa4be4qx7keytwelvedata",
}

// coins are symbols of the providers that do not trade stocks.
var coins = map[string][]string{"binance": {"BTCUSDT", "ETHUSDT"}, "coinbase": {"BTC-USD", "ETH-USD"}}

// Without any key in the environment, every provider answers, and fails on request.
func TestEveryProviderOfTheExchange(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_LATEST=1000/1m", "ALPHA_VANTAGE_API_KEY=", "FINNHUB_API_KEY=", "TWELVE_DATA_API_KEY=")
	for _, p := range exchange.Providers() {
		good, bad := "AAPL", "MSFT"
		if pairs := coins[p.Name]; pairs != nil {
			good, bad = pairs[0], pairs[1]
		}
		status, body := s.get(t, "/prices/latest?provider="+p.Name+"&symbol="+good)
		require.Equal(t, http.StatusOK, status, body)
		require.Equal(t, p.Name, body["provider"])
		s.misbehave(t, s.env["EXCHANGE_URL"], p.Name, bad, "html")
		status, body = s.get(t, "/prices/latest?provider="+p.Name+"&symbol="+bad)
		require.Equal(t, http.StatusBadGateway, status, body)
		require.Equal(t, "provider_malformed", body["code"])
		status, body = s.get(t, "/prices/latest?provider="+p.Name+"&symbol=NOPE")
		require.Equal(t, http.StatusNotFound, status, body)
	}
}

// API keys go to their providers and nowhere else. Every provider is called through get-latest and poll, successfully and with every
// fault, on an exchange that echoes each request in its response. Then all logs, tables, topics, Redis values and responses are
// searched for the keys.
func TestKeysDoNotLeak(t *testing.T) {
	t.Parallel()
	echoing := httptest.NewServer(echo(exchange.New(1, time.Now)))
	t.Cleanup(echoing.Close)
	t.Cleanup(echoing.CloseClientConnections)
	env := []string{"RATE_LIMIT_LATEST=1000/1m", "LOG_LEVEL=debug", "PROVIDER_TIMEOUT=1s"}
	for _, p := range exchange.Providers() {
		variable := strings.ToUpper(p.Name)
		env = append(env, variable+"_BASE_URL="+echoing.URL+"/"+p.Name, variable+"_API_KEY="+providerKeys[p.Name], variable+"_BUDGET=1000/1s")
	}
	s := start(t, newDir(t), env...)
	var answers bytes.Buffer
	for _, p := range exchange.Providers() {
		drive(t, s, echoing.URL, p, &answers)
	}
	pollOnce(t, s, echoing.URL, &answers)
	for _, function := range []string{"GET_LATEST_URL", "POLL_URL", "COMPUTE_MA_URL", "DLQ_INSPECTOR_URL"} {
		for _, path := range []string{"/metrics", "/readyz", "/openapi.json"} {
			note(t, s.env[function]+path, &answers)
		}
	}
	s.eventually(t, nil, "select id::text from outbox")

	// A text that is known to be there proves that the right data was searched: the masked echoes, and the prices.
	tables, topics, memory := everyTable(t, s), everyRecord(t, s), everyRedisValue(t, s)
	nowhere(t, "the tables", tables, hex.EncodeToString([]byte("REDACTED")))
	nowhere(t, "the topics", topics, "marketdata.price.observed.v1")
	nowhere(t, "Redis", memory, "AAPL")
	nowhere(t, "the answers", answers.String(), "provider_auth")
	s.stop(t)
	nowhere(t, "what the processes printed", s.out.String(), "provider_auth")
	files := 0
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		nowhere(t, path, string(b), "")
		return err
	}))
	require.Greater(t, files, 100, "the files of the services, and their logs")
}

// drive requests a good price and each kind of failure from get-latest. Every failure has a symbol of its own, because errors are
// shared by symbol for a while.
func drive(t *testing.T, s *stack, exchangeURL string, p exchange.Provider, answers *bytes.Buffer) {
	t.Helper()
	listed := []string{"AAPL", "AMZN", "MSFT", "GOOG", "IBM"} // for the faults that return a body
	if pairs := coins[p.Name]; pairs != nil {
		listed = pairs
	}
	ask := func(symbol string, want ...int) {
		t.Helper()
		require.Contains(t, want, note(t, s.env["GATEWAY_URL"]+"/prices/latest?provider="+p.Name+"&symbol="+symbol, answers), symbol)
	}
	ask(listed[0], http.StatusOK)
	for i, kind := range []string{"truncated", "extra_fields", "bad_price", "oversized"}[:len(listed)-1] {
		s.misbehave(t, exchangeURL, p.Name, listed[i+1], kind)
		want := http.StatusBadGateway
		if kind == "extra_fields" {
			want = http.StatusOK
		}
		ask(listed[i+1], want)
	}
	for kind, want := range map[string]int{"html": http.StatusBadGateway, "error_5xx": http.StatusServiceUnavailable, "timeout": http.StatusGatewayTimeout} {
		if kind != "timeout" || p.NeedsKey { // each takes a second
			s.misbehave(t, exchangeURL, p.Name, "FAULT-"+kind[:4], kind)
			ask("FAULT-"+kind[:4], want)
		}
	}
	for i, kind := range []string{"bad_key", "no_key", "not_entitled", "limit_minute", "limit_day"} {
		s.misbehave(t, exchangeURL, p.Name, fmt.Sprint("REFUSED", i), kind)
		ask(fmt.Sprint("REFUSED", i), http.StatusBadGateway, http.StatusServiceUnavailable)
	}
}

// pollOnce makes poll fetch a good and a failing symbol of each provider that needs a key.
func pollOnce(t *testing.T, s *stack, exchangeURL string, answers *bytes.Buffer) {
	t.Helper()
	var jobs []string
	for provider := range providerKeys {
		s.misbehave(t, exchangeURL, provider, "POLLED", "limit_day")
		status, body, header := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/prices/poll",
			`{"symbols":["AAPL","POLLED"],"interval":3600,"provider":"`+provider+`"}`, "Content-Type", "application/json")
		require.Equal(t, http.StatusAccepted, status, string(body))
		jobs = append(jobs, header.Get("Location"))
	}
	for _, job := range jobs {
		require.Eventually(t, func() bool {
			_, v := s.get(t, job)
			runs, _ := v["runs"].(float64)
			return runs >= 1
		}, 30*time.Second, 100*time.Millisecond)
		note(t, s.env["GATEWAY_URL"]+job, answers)
	}
	s.eventually(t, []string{"3"}, "select count(*)::text from polling_results where code = 'provider_rate_limited'")
}

// note appends a response, with its header, to answers and returns its status.
func note(t *testing.T, url string, answers *bytes.Buffer) int {
	t.Helper()
	status, body, header := call(t, http.MethodGet, url, "")
	_, _ = fmt.Fprintf(answers, "%s\n%v\n%s\n", url, header, body)
	return status
}

func (s *stack) misbehave(t *testing.T, exchangeURL, provider, symbol, kind string) {
	t.Helper()
	status, body, _ := call(t, http.MethodPut, exchangeURL+"/_admin/faults",
		fmt.Sprintf(`{"provider":%q,"symbol":%q,"kind":%q}`, provider, symbol, kind))
	require.Equal(t, http.StatusNoContent, status, string(body))
}

// echo adds the request to each response of h, as a member if the response is a JSON object.
func echo(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := httptest.NewRecorder()
		h.ServeHTTP(inner, r)
		sent, _ := json.Marshal(map[string]any{"url": r.URL.String(), "query": r.URL.Query(), "header": r.Header}) // never fails
		for name, values := range inner.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("X-Echo", string(sent))
		w.WriteHeader(inner.Code)
		body := inner.Body.Bytes()
		switch {
		case len(body) == 0:
		case body[0] == '{':
			_, _ = fmt.Fprintf(w, `{"zz_echo":%s,%s`, sent, body[1:])
		default:
			_, _ = fmt.Fprintf(w, "%s%s", body, sent)
		}
	})
}

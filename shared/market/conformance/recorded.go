package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// recording is a captured HTTP response.
type recording struct {
	status int
	header http.Header
	body   []byte
}

// folder is where the recordings are.
func (a Adapter) folder() string {
	if a.asks != nil {
		return filepath.Join("testdata", "bars")
	}
	return "testdata"
}

// record reads a recording. The files have no transport headers: the test server sets its own.
func (a Adapter) record(tb testing.TB, name string) recording {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(a.folder(), name)) //nolint:gosec // a file of the test
	require.NoError(tb, err)
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
	require.NoError(tb, err, name)
	defer resp.Body.Close() //nolint:errcheck // in memory
	body, err := io.ReadAll(resp.Body)
	require.NoError(tb, err, name)
	return recording{resp.StatusCode, resp.Header, bytes.TrimSpace(body)}
}

// ServeHTTP plays the recording.
func (c recording) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for name, values := range c.header {
		w.Header()[name] = values
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body) // an error means that the client disconnected
}

// recorded plays every file of testdata. Each file must have an entry in Recorded, and each entry a file.
func (a Adapter) recorded(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.folder(), "*.http"))
	require.NoError(t, err)
	require.Len(t, files, len(a.Recorded), "each recording has an expected outcome")
	require.Contains(t, a.Recorded, "ok.http")
	for name, want := range a.Recorded {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want.check(t, a.ask(t.Context(), t, a.serve(t, a.record(t, name).ServeHTTP), a.Symbol))
		})
	}
}

// FuzzQuotes fuzzes an adapter's decoder of quotes. It begins with the recorded responses.
func FuzzQuotes(f *testing.F, provider string, decode func(market.Symbol, upstream.Answer) (market.Quote, error)) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.http"))
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		r := Adapter{}.record(f, filepath.Base(file))
		f.Add(r.status, r.body)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := upstream.Answer{Response: market.Response{Status: status, Body: body, ReceivedAt: usualTime}}
		q, err := decode("AAPL", a)
		if err != nil {
			require.Zero(t, q)
			checkFault(t, err)
			return
		}
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, market.Symbol("AAPL"), q.Symbol)
		require.Equal(t, provider, q.Provider)
		price, err := market.ParsePrice(q.Price.String())
		require.NoError(t, err)
		require.Equal(t, q.Price, price)
		requireSaid(t, body, price)
		require.True(t, q.ObservedAt.Unix() >= 0 && q.ObservedAt.Year() <= 9999 && q.ObservedAt.Location() == time.UTC, "%s", q.ObservedAt)
		require.Equal(t, q.Undated, q.Undated && q.ObservedAt.Equal(usualTime))
	})
}

// requireSaid requires that a price is a number of the response, at most rounded: an adapter does not calculate.
func requireSaid(t *testing.T, body []byte, price market.Price) {
	t.Helper()
	places := max(-price.Decimal().Exponent(), 0)
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for token, err := d.Token(); err == nil; token, err = d.Token() {
		if said, err := market.ParseRounded(fmt.Sprint(token), places); err == nil && said.Cmp(price) == 0 {
			return
		}
	}
	require.Fail(t, "no such number", "%s in %s", price, body)
}

// player returns a function that asks the adapter while its provider responds with a status and a body.
func (a Adapter) player(t *testing.T, header http.Header) func(t *testing.T, status int, body []byte) result {
	t.Helper()
	var current atomic.Pointer[recording]
	p := a.serve(t, func(w http.ResponseWriter, r *http.Request) { current.Load().ServeHTTP(w, r) })
	return func(t *testing.T, status int, body []byte) result {
		t.Helper()
		current.Store(&recording{status, header, body})
		return a.ask(t.Context(), t, p, a.Symbol)
	}
}

// notPrices are values that are not valid prices.
var notPrices = []string{
	`null`, `0`, `"0"`, `0.0000`, `"0.0000"`, `-1`, `"-1.5"`, `1e400`, `"1e400"`, `1e-400`, `123456789012345678901`, `0.1234567890123456789`,
	`"NaN"`, `"Infinity"`, `"-Infinity"`, `""`, `"N/D"`, `true`, `{}`, `[]`, `[1]`, `"1,234.5"`, `"0x10"`, `" 12"`, `"12 "`, `"+12"`, `".5"`, `"٣"`,
}

// damaged plays variants of the good recording that a provider may send some day.
func (a Adapter) damaged(t *testing.T) {
	t.Helper()
	ok, want := a.record(t, "ok.http"), a.Recorded["ok.http"]
	ask := a.player(t, ok.header)
	malformed := func(t *testing.T, body string) {
		t.Helper()
		require.Equal(t, "provider_malformed", fault.CodeOf(ask(t, http.StatusOK, []byte(body)).err), body)
	}
	value := regexp.MustCompile(regexp.QuoteMeta(a.Price) + `\s*("[^"]*"|[^,}\s]+)`)
	require.Len(t, value.FindAll(ok.body, -1), 1, "Price is the text before the price's value")
	priced := func(text string) []byte { return value.ReplaceAllLiteral(ok.body, []byte(a.Price+text)) }

	t.Run("a truncated response is not a quote", func(t *testing.T) {
		for n := range ok.body {
			malformed(t, string(ok.body[:n]))
		}
	})
	t.Run("an invalid price is not a quote", func(t *testing.T) {
		for _, text := range notPrices {
			malformed(t, string(priced(text)))
		}
		malformed(t, string(value.ReplaceAllLiteral(ok.body, []byte(`"renamed":1`))))
	})
	t.Run("every digit of a price is kept", func(t *testing.T) {
		for _, price := range []string{"12345678901234567890.123456789012345678", "0.000000000000000001", "100000000.00000001"} {
			for _, text := range []string{price, `"` + price + `"`} {
				r := ask(t, http.StatusOK, priced(text))
				require.NoError(t, r.err)
				require.Equal(t, price, r.quote.Price.String())
			}
		}
	})
	t.Run("unknown members are tolerated", func(t *testing.T) {
		more := regexp.MustCompile(`\{(\s*")`).ReplaceAll(ok.body, []byte(`{"zz_new":{"deep":[null,1.5,"x"]},$1`))
		require.NotEqual(t, ok.body, more)
		want.check(t, ask(t, http.StatusOK, more))
	})
	t.Run("a byte order mark is ignored", func(t *testing.T) {
		want.check(t, ask(t, http.StatusOK, append([]byte("\ufeff"), ok.body...)))
	})
	t.Run("forms of a time", func(t *testing.T) {
		if a.Seconds == "" {
			return
		}
		value := regexp.MustCompile(regexp.QuoteMeta(a.Seconds) + `\s*([^,}\s]+)`)
		require.Len(t, value.FindAll(ok.body, -1), 1, "Seconds is the text before the time's value")
		timed := func(text string) result {
			return ask(t, http.StatusOK, value.ReplaceAllLiteral(ok.body, []byte(a.Seconds+text)))
		}
		for _, text := range []string{"1700000000", `"1700000000"`, "1700000000.0", "1.7e9", `"1700000000.000"`} {
			r := timed(text)
			require.NoError(t, r.err, text)
			require.Equal(t, time.Unix(1700000000, 0).UTC(), r.quote.ObservedAt, text)
		}
		require.Equal(t, time.UnixMilli(1700000000500).UTC(), timed("1700000000.5").quote.ObservedAt)
		for _, text := range []string{"-1", "-1700000000", `"NaN"`, `"x"`, `""`, "1e400", "1e19", "9223372036854775807", "253402300800", "true", "{}", "[]"} {
			require.Equal(t, "provider_malformed", fault.CodeOf(timed(text).err), text)
		}
	})
	t.Run("other data are not a quote", func(t *testing.T) {
		for _, body := range []string{
			"", " ", "null", "[]", "{}", `"ok"`, "1", "<html></html>", "<!DOCTYPE html>\n<p>Sign in", "Too Many Requests", "\x00\xff",
			string(ok.body) + string(ok.body), "[" + string(ok.body) + "]",
		} {
			malformed(t, body)
		}
	})
	t.Run("statuses", func(t *testing.T) { statuses(t, ask) })
}

// statuses checks what a status means, whatever the body is.
func statuses(t *testing.T, ask func(t *testing.T, status int, body []byte) result) {
	t.Helper()
	for _, status := range []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, 520} {
		for _, body := range []string{"<html>", "", "upstream connect error", "{}"} {
			require.Equal(t, "provider_unavailable", fault.CodeOf(ask(t, status, []byte(body)).err), fmt.Sprint(status, body))
		}
	}
	for _, body := range []string{"Edge: Too Many Requests", "<html>", "", "{}"} {
		require.Equal(t, "provider_rate_limited", fault.CodeOf(ask(t, http.StatusTooManyRequests, []byte(body)).err), body)
	}
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusNotFound} {
		// A web page is not from the provider's API: with a wrong base URL, every symbol would be "not found".
		require.Equal(t, "provider_malformed", fault.CodeOf(ask(t, status, []byte("<html>")).err), status)
	}
}

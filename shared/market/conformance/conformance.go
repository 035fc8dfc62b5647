// Package conformance is the test suite that every provider adapter must pass; it is for tests only. An adapter's test is one
// short file that fills in an [Adapter] and calls [Run]. The suite calls the adapter against the fake exchange, which misbehaves
// on request, and against responses recorded from the provider, each a file in the adapter's testdata.
//
// Start at [Run]. Its parts are in exchange.go (each kind of fault), recorded.go (recorded responses, also truncated, damaged or
// extended), transport.go (time, size, connections) and secrecy.go (the key). An adapter with a history passes those that do not
// depend on the form of an answer a second time, with bars, and also bars.go (ranges, splits) and bars_recorded.go.
package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
	"marketdata/shared/secret"
)

// key is the adapters' API key; nothing else in a response looks like it.
const key = "Zx81KEYq7w3TopSecret"

// patience is a timeout that only a failure reaches.
const patience = 20 * time.Second

// Adapter describes one adapter.
type Adapter struct {
	Name string
	New  func(upstream.Config) market.Provider
	// Exchange returns a fake exchange, which serves the adapter's provider under /Name, and /_admin, on the given clock.
	Exchange func(now func() time.Time) http.Handler
	Symbol   market.Symbol // traded by the exchange

	// Key is the part of the request that must carry the key; empty if the provider needs none.
	Key struct {
		Header, Prefix string
		Query          string
	}
	TimeGiven bool   // quotes have the provider's time, not ours
	Currency  string // of the exchange's quotes; empty if the provider returns none
	DayLimit  bool   // the provider has a limit per day, and distinguishes it from others
	// Codes are the error codes of faults, by kind, where they differ from the usual ones.
	Codes map[string]string

	// Price is the text before the price's value in testdata/ok.http, such as `"price":`.
	Price string
	// Seconds is the text before the quote's time, for a provider that returns it in seconds since 1970; otherwise empty.
	Seconds string
	// Recorded has the outcome of each file in testdata, which is a captured HTTP response with header and body.
	Recorded map[string]Want

	// Bars describes the adapter's history; nil: it has none.
	Bars *Bars
	// asks is what ask calls; nil: Latest. Then the adapter's clock stands still at now.
	asks *question
	now  time.Time
}

// Want is the expected outcome of one response: a quote, or an error.
type Want struct {
	Price      string
	ObservedAt time.Time // zero: the receive time
	Currency   string

	Code     string        // of the error
	Wait     time.Duration // RetryAfter of the error; 0: any
	Midnight bool          // RetryAfter ends at midnight UTC
}

// Run runs the suite on the adapter.
func Run(t *testing.T, a Adapter) {
	t.Helper()
	t.Run("exchange", func(t *testing.T) { t.Parallel(); a.exchange(t) })
	t.Run("recorded", func(t *testing.T) { t.Parallel(); a.recorded(t) })
	t.Run("damaged", func(t *testing.T) { t.Parallel(); a.damaged(t) })
	t.Run("transport", func(t *testing.T) { t.Parallel(); a.transport(t) })
	t.Run("secrecy", func(t *testing.T) { t.Parallel(); a.secrecy(t) })
	_, historian := a.New(upstream.Config{}).(market.Historian)
	require.Equal(t, a.Bars != nil, historian)
	if historian {
		t.Run("bars", func(t *testing.T) { t.Parallel(); a.bars(t) })
	}
}

// result is one outcome of Latest or of Bars.
type result struct {
	quote   market.Quote
	history market.History
	resp    market.Response
	err     error
}

// adapter returns the adapter for a server that ends with the test.
func (a Adapter) adapter(t *testing.T, h http.Handler, path, key string, timeout time.Duration) market.Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return a.New(upstream.Config{BaseURL: server.URL + path, Key: secret.Value(key), Timeout: timeout, Now: a.clock})
}

// clock is that of the adapter and of the exchange.
func (a Adapter) clock() time.Time {
	if a.now.IsZero() {
		return time.Now()
	}
	return a.now
}

// serve returns the adapter for a server with one handler for all paths.
func (a Adapter) serve(t *testing.T, h http.HandlerFunc) market.Provider {
	t.Helper()
	return a.adapter(t, h, "/base/", key, patience)
}

// ask calls Latest, or Bars if the suite is about bars, and checks what every outcome must satisfy.
func (a Adapter) ask(ctx context.Context, t *testing.T, p market.Provider, symbol market.Symbol) result {
	t.Helper()
	var r result
	if a.asks == nil {
		r.quote, r.resp, r.err = p.Latest(ctx, symbol)
	} else {
		r.history, r.resp, r.err = p.(market.Historian).Bars(ctx, symbol, a.asks.interval, a.asks.from, a.asks.to)
	}
	notShown(t, p, r)
	if r.err != nil {
		require.Zero(t, r.quote, "an error has no quote")
		require.Zero(t, r.history, "an error has no history")
		checkFault(t, r.err)
		return r
	}
	if a.asks != nil {
		a.asks.sound(t, r.history)
		return r
	}
	require.Equal(t, symbol, r.quote.Symbol)
	require.Equal(t, a.Name, r.quote.Provider)
	require.Equal(t, 1, r.quote.Price.Cmp(market.Price{}), "a price is greater than 0")
	require.Equal(t, time.UTC, r.quote.ObservedAt.Location())
	require.NotEmpty(t, r.resp.Body)
	require.Equal(t, http.StatusOK, r.resp.Status)
	return r
}

// checkFault checks an error of a provider.
func checkFault(t *testing.T, err error) {
	t.Helper()
	f, ok := fault.As(fmt.Errorf("wrapped: %w", err))
	require.True(t, ok, "%v is not a fault", err)
	kind := fault.Unavailable
	if f.Code == "symbol_not_found" {
		kind = fault.NotFound
	}
	require.Equal(t, kind, f.Kind, f.Code)
	require.Contains(t, []string{
		"symbol_not_found", "provider_malformed", "provider_auth", "provider_rate_limited", "provider_unavailable", "provider_timeout",
	}, f.Code)
	if f.Code == "provider_rate_limited" {
		require.Positive(t, f.RetryAfter)
		require.LessOrEqual(t, f.RetryAfter, 72*time.Hour)
	}
}

// notShown checks that the key does not appear where an outcome may be printed, logged or stored.
func notShown(t *testing.T, p market.Provider, r result) {
	t.Helper()
	var out bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))} {
		log.Warn("fetch failed", "err", r.err, "quote", r.quote, "history", r.history, "status", r.resp.Status, "provider", p)
	}
	for err := r.err; err != nil; err = errors.Unwrap(err) { // a cause may be logged alone
		_, _ = fmt.Fprintf(&out, "%v %+v %#v\n", err, err, err)
	}
	_, _ = fmt.Fprintf(&out, "%v %+v %#v %+v\n", p, p, p, r.quote)
	out.Write(r.resp.Body)
	require.NotContains(t, strings.ToLower(out.String()), strings.ToLower(key))
}

// check compares an outcome with the expected one.
func (w Want) check(t *testing.T, r result) {
	t.Helper()
	if w.Code != "" {
		require.Equal(t, w.Code, fault.CodeOf(r.err), "%v", r.err)
		f, _ := fault.As(r.err)
		if w.Midnight {
			midnight := r.resp.ReceivedAt.Truncate(24 * time.Hour).Add(24 * time.Hour)
			require.Equal(t, midnight, r.resp.ReceivedAt.Add(f.RetryAfter))
		} else if w.Wait > 0 {
			require.Equal(t, w.Wait, f.RetryAfter)
		}
		return
	}
	require.NoError(t, r.err)
	require.Equal(t, w.Price, r.quote.Price.String())
	require.Equal(t, w.Currency, r.quote.Currency)
	at := w.ObservedAt
	if at.IsZero() {
		at = r.resp.ReceivedAt
	}
	require.Equal(t, at, r.quote.ObservedAt)
	require.Equal(t, w.ObservedAt.IsZero(), r.quote.Undated)
}

// checkOK compares an outcome with that of ok.http.
func (a Adapter) checkOK(t *testing.T, r result) {
	t.Helper()
	if a.asks != nil {
		a.Bars.Recorded["ok.http"].check(t, r)
		return
	}
	a.Recorded["ok.http"].check(t, r)
}

func (a Adapter) needsKey() bool { return a.Key.Header+a.Key.Query != "" }

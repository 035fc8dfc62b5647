package conformance

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// usual has the error codes of the exchange's faults; an empty one means a quote.
var usual = map[string]string{
	"extra_fields": "", "unknown_symbol": "symbol_not_found",
	"bad_key": "provider_auth", "no_key": "provider_auth", "not_entitled": "provider_auth",
	"limit_minute": "provider_rate_limited", "limit_day": "provider_rate_limited",
	"html": "provider_malformed", "truncated": "provider_malformed", "bad_price": "provider_malformed",
	"oversized": "provider_malformed", "timeout": "provider_timeout", "error_5xx": "provider_unavailable",
}

// exchange fetches each kind of fault once, and then a quote, or bars.
func (a Adapter) exchange(t *testing.T) {
	t.Helper()
	for kind, code := range usual {
		if other, ok := a.Codes[kind]; ok {
			code = other
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e, timeout := a.Exchange(a.clock), patience
			if kind == "timeout" {
				timeout = 200 * time.Millisecond
			}
			misbehave(t, e, `{"provider":"`+a.Name+`","symbol":"`+string(a.Symbol)+`","kind":"`+kind+`","count":1}`)
			r := a.ask(t.Context(), t, a.adapter(t, e, "/"+a.Name, key, timeout), a.Symbol)
			if code != "" {
				require.Equal(t, code, fault.CodeOf(r.err), "%v", r.err)
				f, _ := fault.As(r.err)
				switch {
				case kind == "limit_minute":
					require.LessOrEqual(t, f.RetryAfter, time.Minute)
				case kind == "limit_day" && a.DayLimit:
					Want{Code: code, Midnight: true}.check(t, r)
				}
				r = a.ask(t.Context(), t, a.adapter(t, e, "/"+a.Name, key, patience), a.Symbol)
			}
			a.quoted(t, r)
		})
	}
	t.Run("an unknown symbol", func(t *testing.T) {
		t.Parallel()
		p := a.adapter(t, a.Exchange(a.clock), "/"+a.Name, key, patience)
		for _, symbol := range []market.Symbol{"NOPE", "^NO.PE", "NO/PE", "NO:PE=X", "N&PE", "N+PE", "N/../PE"} {
			r := a.ask(t.Context(), t, p, symbol)
			require.Equal(t, "symbol_not_found", fault.CodeOf(r.err), symbol)
		}
	})
	t.Run("a provider without its key is not called", func(t *testing.T) {
		t.Parallel()
		called := false
		e := a.Exchange(a.clock)
		p := a.adapter(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			called = true
			e.ServeHTTP(w, r)
		}), "/"+a.Name, "", patience)
		r := a.ask(t.Context(), t, p, a.Symbol)
		require.Equal(t, !a.needsKey(), called)
		if a.needsKey() {
			require.Equal(t, "provider_auth", fault.CodeOf(r.err))
			return
		}
		a.quoted(t, r)
	})
}

// quoted checks a quote of the exchange, which uses our clock.
func (a Adapter) quoted(t *testing.T, r result) {
	t.Helper()
	require.NoError(t, r.err)
	if a.asks != nil {
		require.NotEmpty(t, r.history.Bars)
		return
	}
	require.Equal(t, a.Currency, r.quote.Currency)
	require.Equal(t, a.TimeGiven, !r.quote.Undated)
	if a.TimeGiven {
		require.Equal(t, r.quote.ObservedAt.Truncate(time.Second), r.quote.ObservedAt)
		require.WithinDuration(t, r.resp.ReceivedAt, r.quote.ObservedAt, time.Minute)
	} else {
		require.Equal(t, r.resp.ReceivedAt, r.quote.ObservedAt)
	}
}

func misbehave(t *testing.T, exchange http.Handler, fault string) {
	t.Helper()
	status, body := admin(t, exchange, http.MethodPut, "/_admin/faults", fault)
	require.Equal(t, http.StatusNoContent, status, body)
}

func admin(t *testing.T, exchange http.Handler, method, target, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	exchange.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzAdmin sends any body to the admin routes. What is accepted is one JSON object, of which nothing is lost; a fault applies to as many
// calls as it says, and prices stay prices.
func FuzzAdmin(f *testing.F) {
	for _, seed := range []string{
		`{"provider":"yfinance","kind":"timeout","count":2,"delay_ms":5}`, `{"provider":"finnhub","symbol":"aapl","kind":"bad_price"}`,
		`{"provider":"yfinance","kind":"html"} {}`, `{"provider":"yfinance","Kind":"html","kind":"html"}`, `{"provider":"yfinance","kind":"html","count":1,"count":2}`,
		`{"provider":"yfinance","kind":"timeout","delay_ms":9223372036854775807}`, `{"provider":"nobody","kind":"html"}`, `null`,
		`{"symbol":"aapl","at":"2026-03-10T13:30:00Z","numerator":4,"denominator":1}`, `{"symbol":"IBM","at":"0001-01-01T00:00:01Z","numerator":1,"denominator":10000}`,
		`{"symbol":"AAPL","at":"2026-03-10T13:30:00Z","known":"9999-12-31T23:59:59Z","numerator":10000,"denominator":1}`,
		`{"provider":"binance","symbol":"BTCUSDT","interval":"1d","start":"2026-03-09T00:00:00Z","until":"2026-03-11T00:00:00Z","change":-9223372036854775808}`,
		`{"provider":"yfinance","symbol":"AAPL","interval":"1m","start":"2026-03-09T14:30:00Z","until":"2026-03-11T00:00:00Z","change":0}`,
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 3, 10, 15, 0, 0, 0, time.UTC)
	e := New(1, func() time.Time { return now })
	gone, cancel := context.WithCancel(f.Context())
	cancel() // a caller that has gone does not wait for a delay
	f.Fuzz(func(t *testing.T, body []byte) {
		e.faults, e.splits, e.drafts = nil, nil, nil
		for _, path := range []string{"/_admin/faults", "/_admin/splits", "/_admin/bars"} {
			w := httptest.NewRecorder()
			e.ServeHTTP(w, httptest.NewRequest(http.MethodPut, path, strings.NewReader(string(body))))
			require.Equal(t, w.Code == http.StatusNoContent, len(e.faults)+len(e.splits)+len(e.drafts) == 1, "%s: %d", path, w.Code)
			var kept any
			switch {
			case len(e.faults) == 1:
				kept = *e.faults[0]
			case len(e.splits) == 1:
				kept = e.splits[0]
			case len(e.drafts) == 1:
				kept = e.drafts[0]
			default:
				require.Equal(t, http.StatusBadRequest, w.Code)
				continue
			}
			requireKept(t, body, kept)
			for _, s := range e.splits {
				for _, cents := range []int64{1, 22302, 1 << 40} {
					require.Positive(t, s.convert(cents))
				}
			}
			h := history{e, venues()[0], "AAPL", now}
			for _, b := range h.bars(24*time.Hour, now.AddDate(0, 0, -7), now) {
				require.Positive(t, b.cents)
			}
			if len(e.faults) == 1 {
				fault := *e.faults[0]
				r := httptest.NewRequestWithContext(gone, http.MethodGet, "/", nil)
				require.GreaterOrEqual(t, time.Duration(fault.DelayMS)*time.Millisecond, time.Duration(fault.DelayMS), "the delay is not cut off")
				for n := range 5 {
					hit := e.called(r, fault.Provider, strings.ToLower(fault.Symbol)) == fault.Kind
					require.Equal(t, fault.Count == 0 || n < fault.Count, hit, "call %d of %d", n, fault.Count)
				}
			}
			e.faults, e.splits, e.drafts = nil, nil, nil
		}
	})
}

// requireKept compares the members of a JSON object with those of what it was decoded to. Symbols are converted.
func requireKept(t *testing.T, body []byte, kept any) {
	t.Helper()
	text, err := json.Marshal(kept)
	require.NoError(t, err)
	var want, have map[string]any
	require.NoError(t, json.Unmarshal(body, &want), "it is one JSON object")
	require.NoError(t, json.Unmarshal(text, &have))
	for name, value := range want {
		said, _ := value.(string)
		at, notTime := time.Parse(time.RFC3339, said)
		switch {
		case value == nil || value == "" || value == 0.0: // says nothing
		case name == "symbol":
			require.NotEmpty(t, have[name])
		case notTime == nil:
			shown, err := time.Parse(time.RFC3339, fmt.Sprint(have[name]))
			require.NoError(t, err)
			require.True(t, at.Equal(shown), "%s: %s became %s", name, body, text)
		default:
			require.Equal(t, value, have[name], "%s: %s became %s", name, body, text)
		}
	}
}

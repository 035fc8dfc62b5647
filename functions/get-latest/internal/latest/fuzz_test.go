package latest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// FuzzRequest parses any query and If-None-Match: what is accepted asks for valid symbols of a known provider.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][2]string{
		{"symbol=AAPL", `"a", W/"b"`},
		{"symbols=AAPL,,A+B&provider=auto", "*"},
		{"symbol=%00", "\xff"},
		{"symbols=" + strings.Repeat("A,", 60), `"`},
		{"symbol=..", ""},
		{"symbol=A%0d%0aX:y", ""},
		{"symbol=A&provider=http://evil", ""},
		{"symbol=A&symbol=B", `W/"a`},
	} {
		f.Add(seed[0], seed[1])
	}
	a := &API{Config: Config{DefaultProvider: "yfinance", Known: func(p string) bool { return p == "yfinance" }}}
	f.Fuzz(func(t *testing.T, query, held string) {
		r := httptest.NewRequest(http.MethodGet, "/prices/latest", nil)
		r.URL.RawQuery, r.Header["If-None-Match"] = query, []string{held}
		q, err := a.read(r)
		if err != nil {
			require.Contains(t, []string{fault.CodeInvalidParameter, fault.CodeInvalidSymbol, fault.CodeUnknownProvider}, fault.CodeOf(err))
			require.Zero(t, q)
			return
		}
		require.Contains(t, []string{"yfinance", auto}, q.provider)
		require.True(t, q.batch || len(q.symbols) == 1)
		require.LessOrEqual(t, len(q.symbols)+len(q.refused), maxSymbols)
		for _, s := range q.symbols {
			again, err := market.ParseSymbol(string(s))
			require.NoError(t, err)
			require.Equal(t, s, again)
		}
		_, err = json.Marshal(q.refused)
		require.NoError(t, err)
		require.True(t, matches([]string{held, `"mine"`}, `"mine"`))
		if matches([]string{held}, `"mine"`) {
			require.True(t, strings.Contains(held, `"mine"`) || strings.Trim(held, " \t") == "*")
		}
	})
}

// FuzzEncode encodes a price with any currency, which is a provider's, as the library does.
func FuzzEncode(f *testing.F) {
	f.Add("GBp", int64(1710930600123456))
	f.Add(`"},{"<script>`, int64(0))
	f.Add("\xff\u2028\x00", int64(-1))
	f.Fuzz(func(t *testing.T, currency string, micros int64) {
		at := time.UnixMicro(micros).UTC()
		if at.Year() < 0 || at.Year() > 9999 {
			return // no quote has such a time
		}
		b := priceBody{Symbol: "AAPL", Price: "150.25", Timestamp: at, Provider: "yfinance", Currency: currency}
		want, err := json.Marshal(b)
		require.NoError(t, err)
		got, err := encode(b)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	})
}

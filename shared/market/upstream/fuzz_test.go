package upstream

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// FuzzPathSegment builds URLs as the adapters do: a symbol stays one segment of the path, or one value of the query, of the base URL's
// host.
func FuzzPathSegment(f *testing.F) {
	for _, s := range []string{"AAPL", "^GSPC", "M&M.NS", "A/B", "a..b", "x:80", "A=/:_&+-", "BTC-USD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		symbol, err := market.ParseSymbol(text)
		if err != nil {
			return
		}
		u, err := url.Parse("https://base.example/v8/?" + url.Values{"symbol": {string(symbol)}}.Encode())
		require.NoError(t, err)
		require.Equal(t, url.Values{"symbol": {string(symbol)}}, u.Query())
		segment, err := PathSegment(symbol)
		if err != nil {
			require.Equal(t, fault.CodeSymbolNotFound, fault.CodeOf(err))
			require.Contains(t, string(symbol), "/")
			return
		}
		require.NotContains(t, string(symbol), "/")
		u, err = url.Parse("https://base.example/v8/" + segment + "?x=1")
		require.NoError(t, err)
		require.Equal(t, "base.example", u.Host)
		require.Equal(t, "/v8/"+string(symbol), u.Path)
		require.Equal(t, "x=1", u.RawQuery)
		require.Equal(t, u.Path, u.JoinPath().Path, "nothing is left for a proxy to resolve")
	})
}

// FuzzMask hides a key in whatever a provider echoes.
func FuzzMask(f *testing.F) {
	f.Add("Zx81KEYq7w3TopSecret", "We have detected your API key as ", " and so on")
	f.Add("a+b/c=d\"e", `{"key":"`, `"}`)
	f.Add("demo", "the ", " key")
	f.Add("0000000\"", "0", "0")
	f.Add("d0000000", "0", "0000000")
	f.Fuzz(func(t *testing.T, key, before, after string) {
		if len(key) > 256 { // keys are ours, and an expression of thousands of alternatives takes seconds
			return
		}
		mask := newMask(key)
		if len(key) < shortKey || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			mask([]byte(before + key + after))
			return
		}
		quoted, err := json.Marshal(key)
		require.NoError(t, err)
		for _, echo := range []string{key, strings.ToUpper(key), url.QueryEscape(key), url.PathEscape(key), string(quoted[1 : len(quoted)-1])} {
			for part := range strings.SplitSeq(string(mask([]byte(before+echo+after))), "REDACTED") { // which may begin, or end, as the key does
				require.NotContains(t, strings.ToLower(part), strings.ToLower(echo))
			}
		}
	})
}

// FuzzRetryAfter bounds the wait that a provider asks for.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "5", "-1", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9", "0x10", "259200", "259201"} {
		f.Add(s)
	}
	now := time.Date(2026, 10, 21, 7, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		wait := retryAfter(text, now)
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, longestWait)
	})
}

// FuzzSeconds reads the time of a quote.
func FuzzSeconds(f *testing.F) {
	for _, s := range []string{"1710930600", "1710930600.5", "1.7e9", "253402300800", "99999999999999999999", "0", "-1", "1e-18", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, digits string) {
		at, err := Seconds((*json.Number)(&digits))
		if err != nil {
			require.Equal(t, fault.CodeProviderMalformed, fault.CodeOf(err))
			require.Zero(t, at)
			return
		}
		require.True(t, at.Year() >= 1970 && at.Year() <= 9999, "%s", at)
		_, err = at.MarshalJSON()
		require.NoError(t, err)
	})
}

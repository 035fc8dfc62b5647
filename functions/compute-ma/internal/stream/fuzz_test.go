package stream

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// FuzzStream asks for any series, and reads an event of the first as a client does (HTML standard, section 9.2.6): it is one event, with
// the state as its only data. Last-Event-ID changes nothing.
func FuzzStream(f *testing.F) {
	for _, seed := range [][2]string{
		{"symbols=AAPL,MSFT", "yfinance:AAPL:4711"},
		{"symbols=A%0aevent:%20x", "\n"},
		{"symbols=A&provider=a%0d", ""},
		{"symbols=^GSPC,^gspc,EURUSD=X", "\x00"},
		{"symbols=" + strings.Repeat("A,", 100), ""},
		{"symbols=%2e%2e", ""},
		{"symbol=A", ""},
		{"symbols=A;B", ""},
	} {
		f.Add(seed[0], seed[1], int64(1710930600123456), uint32(15025))
	}
	a := &API{Config: Config{DefaultProvider: "yfinance"}}
	f.Fuzz(func(t *testing.T, query, last string, micros int64, price uint32) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.URL.RawQuery, r.Header["Last-Event-Id"] = query, []string{last}
		keys, err := a.read(r)
		if err != nil {
			require.Contains(t, []string{fault.CodeInvalidParameter, fault.CodeInvalidSymbol, fault.CodeInvalidProvider}, fault.CodeOf(err))
			require.Empty(t, keys)
			return
		}
		require.True(t, len(keys) > 0 && len(keys) <= maxSymbols)
		for _, k := range keys {
			_, err := market.ParseSymbol(k.Symbol)
			require.NoError(t, err)
			_, err = market.ParseProvider(k.Provider)
			require.NoError(t, err)
		}
		newest := series.Newest{Points: []series.Point{{At: micros, Price: series.NewValue(decimal.New(int64(price)+1, -2))}}}
		_, event, err := encode(series.State{
			Key: keys[0], Version: "4711", Price: newest.Points[0].Price, AsOf: micros, Averages: newest.Averages([]int{5}),
		})
		if err != nil {
			return // a time that JSON cannot hold
		}
		fields := map[string][]string{}
		lines := bufio.NewScanner(strings.NewReader(string(event)))
		for lines.Scan() && lines.Text() != "" {
			name, value, _ := strings.Cut(lines.Text(), ":")
			fields[name] = append(fields[name], strings.TrimPrefix(value, " "))
		}
		require.False(t, lines.Scan(), "nothing follows the empty line")
		require.Equal(t, []string{"series"}, fields["event"])
		require.Equal(t, []string{keys[0].Provider + ":" + keys[0].Symbol + ":4711"}, fields["id"])
		require.Len(t, fields["data"], 1)
		require.Len(t, fields, 3)
		var data struct{ Symbol, Provider string }
		require.NoError(t, json.Unmarshal([]byte(fields["data"][0]), &data))
		require.Equal(t, series.Key{Symbol: data.Symbol, Provider: data.Provider}, keys[0])
	})
}

package averages_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
)

func (b bundle) csv(t *testing.T, query string) [][]string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/averages/history?symbol=TALIB&"+query, nil)
	r.Header.Set("Accept", "text/csv")
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	rows, err := csv.NewReader(w.Body).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"as_of", "average", "adjusting"}, rows[0])
	return rows[1:]
}

// CSV has the very digits of JSON, over all pages: those that a client asks for, and those that we read.
func TestAverageHistoryAsCSV(t *testing.T) {
	t.Parallel()
	b := setup()
	closes := talib(t)
	for i := range 11_000 { // three pages
		b.store.history = append(b.store.history, series.Point{At: int64(i) * 1e6, Price: closes[i%len(closes)].Price})
	}
	for _, kind := range []string{"sma", "wma", "ema"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			query := "window=7&kind=" + kind
			var want [][]string
			for token := ""; ; {
				var page struct {
					Averages []struct {
						AsOf    string `json:"as_of"`
						Average json.RawMessage
					}
					Next *string `json:"next_page_token"`
				}
				require.NoError(t, json.Unmarshal(b.get("/averages/history?symbol=TALIB&limit=4000&"+query+token).Body.Bytes(), &page))
				for _, a := range page.Averages {
					want = append(want, []string{a.AsOf, string(a.Average), "false"})
				}
				if page.Next == nil {
					break
				}
				token = "&page_token=" + *page.Next
			}
			require.Len(t, want, 11_000-6)
			require.Equal(t, want, b.csv(t, query))
			require.Equal(t, want[:5], b.csv(t, query+"&limit=5"))
		})
	}
}

// A spreadsheet must not lose that closes are of before and after a split.
func TestCSVSaysAdjusting(t *testing.T) {
	t.Parallel()
	b := setup()
	b.store.history, b.store.adjusting = talib(t), true
	for provider, want := range map[string]bool{"yfinance-1d": true, "yfinance": false} {
		for _, row := range b.csv(t, "provider="+provider) {
			require.Equal(t, strconv.FormatBool(want), row[2])
		}
	}
	w := b.get("/averages/history?symbol=TALIB&format=csv&limit=1&kind=ema")
	require.Equal(t, `attachment; filename="ema5-TALIB-coinbase.csv"`, w.Header().Get("Content-Disposition"))
	require.Contains(t, w.Header().Get("Link"), "kind=ema")
	require.True(t, strings.HasPrefix(w.Body.String(), "as_of,average,adjusting\r\n1970-01-01T00:00:04Z,"), w.Body.String())
	w = b.get("/averages/history?symbol=TALIB&format=csv&expand_underlying=true")
	require.Equal(t, http.StatusBadRequest, w.Code)
	b.store.err = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
	w = b.get("/averages/history?symbol=TALIB&format=csv")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "storage_unavailable")
}

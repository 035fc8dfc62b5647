package averages_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/market"
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
	w = b.get("/averages/history?symbol=TALIB&format=csv&start=yesterday")
	require.Equal(t, http.StatusBadRequest, w.Code)
	b.store.err = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
	w = b.get("/averages/history?symbol=TALIB&format=csv")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "storage_unavailable")
}

// FuzzHistory reads the averages of any prices at any time in both formats: CSV has the very digits of JSON, an average lies within the
// prices, and no cell is a formula to a spreadsheet.
func FuzzHistory(f *testing.F) {
	f.Add("150.25,150.5,1e2,0.000000000000000001", int64(1_710_930_600_123_456), uint8(0), uint8(2))
	f.Add("12345678901234567890.123456789012345678,1", int64(0), uint8(1), uint8(2))
	f.Add("1,2,3,4,5,6,7", int64(-1), uint8(2), uint8(3))
	f.Add("0.1", int64(253_402_300_799_999_999), uint8(0), uint8(1))
	b := setup()
	const end = 253_402_300_799_000_000 // of 9999, less what the points need
	f.Fuzz(func(t *testing.T, prices string, at int64, kind, window uint8) {
		b.store.history = nil
		var lowest, highest decimal.Decimal
		for text := range strings.SplitSeq(prices, ",") {
			p, err := market.ParsePrice(text)
			if err != nil || len(b.store.history) == 30 {
				return
			}
			d, n := p.Decimal(), len(b.store.history)
			if n == 0 {
				lowest, highest = d, d
			}
			lowest, highest = decimal.Min(lowest, d), decimal.Max(highest, d)
			b.store.history = append(b.store.history, series.Point{At: int64(uint64(at)%end) + int64(n), Price: series.NewValue(d)})
		}
		query := "window=" + strconv.Itoa(int(window)%10+1) + "&kind=" + []string{"sma", "wma", "ema"}[kind%3]
		var page struct {
			Averages []struct {
				AsOf    string `json:"as_of"`
				Average json.RawMessage
			}
		}
		require.NoError(t, json.Unmarshal(b.get("/averages/history?symbol=TALIB&"+query).Body.Bytes(), &page))
		rows := b.csv(t, query)
		require.Len(t, rows, max(len(b.store.history)-int(window)%10, 0))
		require.Len(t, page.Averages, len(rows))
		for i, row := range rows {
			require.Equal(t, []string{page.Averages[i].AsOf, string(page.Averages[i].Average), "false"}, row)
			newest := b.store.history[i+int(window)%10]
			require.Equal(t, time.UnixMicro(newest.At).UTC().Format(time.RFC3339Nano), row[0])
			require.Regexp(t, `^\d+(\.\d+)?$`, row[1])
			average, err := decimal.NewFromString(row[1])
			require.NoError(t, err)
			off := decimal.New(1, -series.Places) // an ema, and a wma, are rounded
			require.True(t, average.GreaterThanOrEqual(lowest.Sub(off)) && average.LessThanOrEqual(highest.Add(off)), "%s of %s", average, prices)
		}
	})
}

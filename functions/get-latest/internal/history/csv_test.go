package history

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/testenv/call"
)

// CSV has the very texts of JSON, a whole series without a limit, and otherwise a page.
func TestHistoryAsCSV(t *testing.T) {
	t.Parallel()
	b := setup()
	const points = 2*csvPage + 7
	start := time.Date(2024, 3, 20, 10, 30, 0, 123456000, time.UTC)
	prices := []market.Price{}
	for _, text := range []string{"0.000000000000000001", "12345678901234567890.123456789012345678", "1.5", "1e3", "150"} {
		p, err := market.ParsePrice(text)
		require.NoError(t, err)
		prices = append(prices, p)
	}
	most := 0
	b.api.points = pointsFunc(func(q span, limit int) (all []point, _ error) {
		most = max(most, limit)
		for i := range points {
			at := start.Add(time.Duration(i) * time.Second)
			if q.descending {
				at = start.Add(time.Duration(points-1-i) * time.Second)
			}
			if len(all) < limit && !at.Before(q.From) && at.Before(q.To) {
				all = append(all, point{at, prices[at.Second()%len(prices)], rawID})
			}
		}
		return all, nil
	})
	for _, order := range []string{"asc", "desc"} {
		var want [][]string
		token := ""
		for {
			w := call.Do(b.service.Handler(), http.MethodGet, "/prices/history?symbol=AAPL&limit=10000&order="+order+"&page_token="+token, "")
			var page struct {
				Prices []map[string]json.RawMessage
				Next   *string `json:"next_page_token"`
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
			for _, p := range page.Prices {
				want = append(want, []string{strings.Trim(string(p["timestamp"]), `"`), string(p["price"]), strings.Trim(string(p["raw_response_id"]), `"`)})
			}
			if page.Next == nil {
				break
			}
			token = *page.Next
		}
		require.Len(t, want, points)
		most = 0
		w := call.Do(b.service.Handler(), http.MethodGet, "/prices/history?symbol=AAPL&order="+order, "", "Accept", "text/csv")
		require.Equal(t, http.StatusOK, w.Code)
		require.Empty(t, w.Header().Get("Link"))
		require.LessOrEqual(t, most, csvPage+1, "it is not built in memory")
		got, err := csv.NewReader(w.Body).ReadAll()
		require.NoError(t, err)
		require.Equal(t, []string{"timestamp", "price", "raw_response_id"}, got[0])
		require.True(t, slices.EqualFunc(want, got[1:], slices.Equal), order)
	}
	w := call.Do(b.service.Handler(), http.MethodGet, "/prices/history?symbol=%5EGSPC&provider=yfinance-1d&limit=2&format=csv", "")
	require.Equal(t, "timestamp,price,raw_response_id\r\n2024-03-20T10:30:00.123456Z,0.000000000000000001,"+rawID.String()+
		"\r\n2024-03-20T10:30:01.123456Z,12345678901234567890.123456789012345678,"+rawID.String()+"\r\n", w.Body.String())
	require.Equal(t, `attachment; filename="prices-_GSPC-yfinance-1d.csv"`, w.Header().Get("Content-Disposition"))
	require.Regexp(t, `^<\?format=csv&limit=2&page_token=[A-Za-z0-9_-]+&provider=yfinance-1d&symbol=%5EGSPC>; rel="next"$`, w.Header().Get("Link"))
	w = call.Do(b.service.Handler(), http.MethodGet, "/prices/history?symbol=AAPL&start=2030-01-01", "", "Accept", "text/csv")
	require.Equal(t, "timestamp,price,raw_response_id\r\n", w.Body.String())
	w = call.Do(b.service.Handler(), http.MethodGet, "/prices/history?symbol=A%20B&format=csv", "")
	require.Equal(t, "invalid_symbol", call.Problem(t, w).Code)
}

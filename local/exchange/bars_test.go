package exchange

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func date(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func TestSessionsOfNewYork(t *testing.T) {
	t.Parallel()
	for day, want := range map[time.Time]string{
		date(2026, 1, 2):   "14:30-21:00",
		date(2026, 3, 6):   "14:30-21:00", // before the change of the clocks
		date(2026, 3, 9):   "13:30-20:00", // after it
		date(2026, 10, 30): "13:30-20:00",
		date(2026, 11, 2):  "14:30-21:00",
		date(2026, 11, 27): "14:30-18:00", // after Thanksgiving
		date(2025, 12, 24): "14:30-18:00",
		date(2025, 7, 3):   "13:30-17:00",
		date(2021, 6, 18):  "13:30-20:00", // the exchange did not keep Juneteenth yet
		date(2021, 12, 31): "14:30-21:00", // a New Year's Day on a Saturday is not moved
		date(2026, 3, 7):   "",            // Saturday
		date(2026, 3, 8):   "",            // Sunday
		date(2026, 1, 1):   "",
		date(2023, 1, 2):   "", // New Year's Day was a Sunday
		date(2026, 1, 19):  "",
		date(2026, 2, 16):  "",
		date(2026, 4, 3):   "", // Good Friday
		date(2024, 3, 29):  "", // Good Friday
		date(2019, 4, 19):  "", // Good Friday
		date(2026, 5, 25):  "",
		date(2026, 6, 19):  "",
		date(2026, 7, 3):   "", // Independence Day is a Saturday
		date(2021, 7, 5):   "", // Independence Day was a Sunday
		date(2026, 9, 7):   "",
		date(2026, 11, 26): "",
		date(2026, 12, 25): "",
		date(2021, 12, 24): "", // Christmas was a Saturday
	} {
		s, open := sessionOn(day)
		got := ""
		if open {
			got = s.open.UTC().Format("15:04") + "-" + s.end.UTC().Format("15:04")
		}
		require.Equal(t, want, got, day.Format(time.DateOnly))
	}
	days := 0
	for day := date(2025, 1, 1); day.Year() == 2025; day = day.Add(oneDay) {
		if _, open := sessionOn(day); open {
			days++
		}
	}
	require.Equal(t, 251, days, "261 weekdays less ten holidays")
}

// at returns an exchange whose clock the test moves.
func at(start time.Time) (e *Exchange, now *time.Time) {
	now = &start
	return New(1, func() time.Time { return *now }), now
}

func (e *Exchange) historyOf(v venue, instrument string) history {
	return history{e, v, instrument, e.now()}
}

func ask(e *Exchange, method, target, body string) (int, string) {
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestTheCloseOfABarIsTheQuoteOfItsLastSecond(t *testing.T) {
	t.Parallel()
	e, now := at(date(2026, 3, 14))
	for _, interval := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, oneDay} {
		for instrument, v := range map[string]venue{"AAPL": yfinance, "BTC-USD": binance} {
			*now = date(2026, 3, 14)
			bars := e.historyOf(v, instrument).bars(interval, date(2026, 3, 6), date(2026, 3, 14))
			require.NotEmpty(t, bars)
			for _, b := range bars {
				require.True(t, b.final)
				cents, known := e.price(instrument, b.end.Add(-time.Second).Unix())
				require.True(t, known)
				require.Equal(t, cents, b.cents)
			}
		}
	}
	*now = time.Date(2026, 3, 10, 18, 7, 33, 0, time.UTC)
	bars := e.historyOf(yfinance, "AAPL").bars(time.Hour, date(2026, 3, 10), date(2026, 3, 11))
	require.Len(t, bars, 5, "13:30 to 17:30, of which the last has not ended")
	last := bars[4]
	require.False(t, last.final)
	_, text := ask(e, http.MethodGet, "/yfinance/v8/finance/chart/AAPL?interval=1m&range=1d", "")
	require.Contains(t, text, `"regularMarketPrice":`+decimalCents(last.cents), "its close is the quote of now")
}

func TestRealClosesSince2000(t *testing.T) {
	t.Parallel()
	e, _ := at(date(2026, 3, 14))
	first := func(instrument string) bar {
		return e.historyOf(alphaVantage, instrument).bars(oneDay, time.Time{}, date(2010, 1, 1))[0]
	}
	require.Equal(t, date(2000, 1, 3), first("MSFT").start)
	require.Equal(t, date(2004, 8, 2), first("GOOG").start, "it was not listed before")
	require.InDelta(t, 3981, first("MSFT").cents, 3981*0.14)
	require.Equal(t, int64(3810), between([]monthlyClose{{0, 3800}, {100, 3900}}, 10))
}

func TestSplits(t *testing.T) {
	t.Parallel()
	e, now := at(time.Date(2026, 3, 10, 13, 29, 59, 0, time.UTC))
	price := func() (cents int64) {
		cents, _ = e.price("AAPL", now.Unix())
		return e.inShares("AAPL", cents, now.Unix())
	}
	before := price()
	status, _ := ask(e, http.MethodPut, "/_admin/splits", `{"symbol":"aapl","at":"2026-03-10T13:30:00Z","numerator":4,"denominator":1}`)
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, before, price(), "it is not in effect yet")
	*now = now.Add(time.Second)
	require.InDelta(t, before/4, price(), 50)
	_, text := ask(e, http.MethodGet, "/yfinance/v8/finance/chart/AAPL?interval=1d&events=split&period1=1772500000&period2=1773200000", "")
	require.Contains(t, text, `"splits":{"1773149400":{"date":1773149400,"numerator":4.0,"denominator":1.0,"splitRatio":"4:1"}}`)
	_, text = ask(e, http.MethodGet, "/yfinance/v8/finance/chart/AAPL?interval=1d&period1=1772500000&period2=1773200000", "")
	require.NotContains(t, text, "splits", "nobody asked")
	status, _ = ask(e, http.MethodDelete, "/_admin/splits", "")
	require.Equal(t, http.StatusNoContent, status)
	require.InDelta(t, before, price(), 200)
	for _, text := range []string{
		``, `{}`, `{"symbol":"AAPL"}`, `{"symbol":"NOPE","at":"2026-03-10T13:30:00Z","numerator":4,"denominator":1}`,
		`{"symbol":"BTC-USD","at":"2026-03-10T13:30:00Z","numerator":4,"denominator":1}`,
		`{"symbol":"AAPL","at":"2026-03-10T13:30:00Z","numerator":0,"denominator":1}`,
		`{"symbol":"AAPL","at":"2026-03-10T13:30:00Z","numerator":4,"denominator":-1}`,
	} {
		status, _ := ask(e, http.MethodPut, "/_admin/splits", text)
		require.Equal(t, http.StatusBadRequest, status, text)
	}
}

// A split that is known late changes the closes of before it late, and no others.
func TestASplitThatIsKnownLate(t *testing.T) {
	t.Parallel()
	e, now := at(date(2026, 3, 14))
	closes := func(v venue) (cents []int64) {
		for _, b := range e.historyOf(v, "AAPL").bars(oneDay, date(2026, 3, 9), date(2026, 3, 12)) {
			cents = append(cents, b.cents)
		}
		return cents
	}
	listed := func() string {
		_, text := ask(e, http.MethodGet, "/yfinance/v8/finance/chart/AAPL?interval=1d&events=split&period1=1772500000&period2=1773200000", "")
		return text
	}
	old := closes(yfinance)
	body := `{"symbol":"AAPL","at":"2026-03-10T13:30:00Z","known":"2026-03-20T00:00:00Z","numerator":4,"denominator":1}`
	status, _ := ask(e, http.MethodPut, "/_admin/splits", body)
	require.Equal(t, http.StatusNoContent, status)
	split := split{Numerator: 4, Denominator: 1}
	traded := []int64{old[0], split.convert(old[1]), split.convert(old[2])}
	require.Equal(t, traded, closes(yfinance))
	require.NotContains(t, listed(), "splitRatio")
	*now = date(2026, 3, 20)
	require.Equal(t, []int64{split.convert(old[0]), traded[1], traded[2]}, closes(yfinance))
	require.Contains(t, listed(), `"splitRatio":"4:1"`)
	require.Equal(t, traded, closes(alphaVantage), "as traded for ever")
}

// A bar may come late, or with another close at first; every provider says so in its own format.
func TestDrafts(t *testing.T) {
	t.Parallel()
	for provider, target := range map[string]string{
		"yfinance":      "/yfinance/v8/finance/chart/AAPL?interval=1d&period1=1773273600&period2=1773446400",
		"alpha_vantage": "/alpha_vantage/query?function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k",
		"twelve_data":   "/twelve_data/time_series?symbol=AAPL&interval=1day&apikey=k&start_date=2026-03-11&end_date=2026-03-13",
		"binance":       "/binance/api/v3/klines?symbol=BTCUSDT&interval=1d&startTime=1773273600000",
		"coinbase":      "/coinbase/products/BTC-USD/candles?granularity=86400&start=2026-03-12T00:00:00Z&end=2026-03-13T00:00:00Z",
	} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			e, now := at(time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC))
			symbol := map[string]string{"binance": "BTCUSDT", "coinbase": "BTC-USD"}[provider]
			if symbol == "" {
				symbol = "AAPL"
			}
			day := date(2026, 3, 12)
			draft := func(change int) string {
				return fmt.Sprintf(`{"provider":%q,"symbol":%q,"interval":"1d","start":"2026-03-12T00:00:00Z","until":"2026-03-14T13:00:00Z","change":%d}`,
					provider, symbol, change)
			}
			_, before := ask(e, http.MethodGet, target, "")
			status, _ := ask(e, http.MethodPut, "/_admin/bars", draft(7))
			require.Equal(t, http.StatusNoContent, status)
			_, corrected := ask(e, http.MethodGet, target, "")
			require.NotEqual(t, before, corrected)
			status, _ = ask(e, http.MethodPut, "/_admin/bars", draft(0))
			require.Equal(t, http.StatusNoContent, status)
			_, late := ask(e, http.MethodGet, target, "")
			require.NotEqual(t, corrected, late)
			query := fmt.Sprintf("/_admin/bars?provider=%s&symbol=%s&interval=1d&start=%d&end=%d", provider, symbol, day.Unix(), day.Unix()+1)
			_, list := ask(e, http.MethodGet, query, "")
			require.JSONEq(t, `{"bars":[]}`, list)
			*now = now.Add(time.Hour)
			_, list = ask(e, http.MethodGet, query, "")
			require.Contains(t, list, `"final":true`)
		})
	}
	e, _ := at(date(2026, 3, 14))
	for _, text := range []string{
		``, `{}`, `{"provider":"yfinance","symbol":"NOPE","interval":"1d","start":"2026-03-12T00:00:00Z","until":"2026-03-14T13:00:00Z"}`,
		`{"provider":"nope","symbol":"AAPL","interval":"1d","start":"2026-03-12T00:00:00Z","until":"2026-03-14T13:00:00Z"}`,
		`{"provider":"yfinance","symbol":"AAPL","interval":"2d","start":"2026-03-12T00:00:00Z","until":"2026-03-14T13:00:00Z"}`,
		`{"provider":"yfinance","symbol":"AAPL","interval":"1d","until":"2026-03-14T13:00:00Z"}`,
	} {
		status, _ := ask(e, http.MethodPut, "/_admin/bars", text)
		require.Equal(t, http.StatusBadRequest, status, text)
	}
}

// The limits are the providers': an adapter that ignores them fails here, too.
func TestLimitsOfHistories(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 18, 7, 33, 0, time.UTC)
	e, _ := at(now)
	chart := func(interval string, from, to time.Duration) string {
		return fmt.Sprintf("/yfinance/v8/finance/chart/AAPL?interval=%s&period1=%d&period2=%d", interval, now.Add(from).Unix(), now.Add(to).Unix())
	}
	for target, want := range map[string]string{
		chart("1m", -9*oneDay, 0):                           "Only 8 days",
		chart("1m", -31*oneDay, -30*oneDay):                 "within the last 30 days",
		chart("5m", -61*oneDay, -60*oneDay):                 "within the last 60 days",
		chart("1h", -731*oneDay, -oneDay):                   "within the last 730 days",
		chart("2x", -oneDay, 0):                             "Invalid input",
		chart("1d", -20000*oneDay, -19999*oneDay):           "Data doesn't exist",
		"/coinbase/products/BTC-USD/candles?granularity=61": "Unsupported granularity",
		"/coinbase/products/BTC-USD/candles?granularity=60&start=2026-03-10T00:00:00Z&end=2026-03-10T05:00:01Z": "exceeds 300",
		"/binance/api/v3/klines?symbol=BTCUSDT&interval=2x":                                                     "-1120",
		"/twelve_data/time_series?symbol=AAPL&interval=1min&outputsize=5001&apikey=k":                           "**outputsize**",
		"/twelve_data/time_series?symbol=AAPL&interval=1day&apikey=k&start_date=2026-03-07&end_date=2026-03-08": "No data is available",
	} {
		_, text := ask(e, http.MethodGet, target, "")
		require.Contains(t, text, want, target)
	}
	count := func(target, each string) int {
		_, text := ask(e, http.MethodGet, target, "")
		return strings.Count(text, each)
	}
	require.Equal(t, 1000, count("/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5000&startTime=1773000000000", ",308,"))
	require.Equal(t, 500, count("/binance/api/v3/klines?symbol=BTCUSDT&interval=1m", ",308,"))
	require.Equal(t, 30, count("/twelve_data/time_series?symbol=AAPL&interval=1day&apikey=k", "datetime"))
	require.Equal(t, 100, count("/alpha_vantage/query?function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k", "4. close"))
	require.Less(t, 6000, count("/alpha_vantage/query?function=TIME_SERIES_DAILY&symbol=AAPL&apikey=k&outputsize=full", "4. close"))
	_, calls := ask(e, http.MethodGet, "/_admin/calls?of=bars&provider=binance", "")
	require.JSONEq(t, `{"calls":3}`, calls)
	_, calls = ask(e, http.MethodGet, "/_admin/calls?of=quotes", "")
	require.JSONEq(t, `{"calls":0}`, calls)
}

func TestSomeIntervalsHaveNoClose(t *testing.T) {
	t.Parallel()
	e, now := at(date(2026, 3, 14))
	for _, v := range venues() {
		h := history{e, v, "AAPL", *now}
		if v.pair != nil {
			h.instrument = "BTC-USD"
		}
		bars := h.bars(5*time.Minute, date(2026, 1, 14), date(2026, 3, 14))
		lost := 0
		for _, b := range bars {
			if b.lost {
				lost++
			}
		}
		require.Equal(t, v.lossy, lost > len(bars)/100, v.name)
	}
}

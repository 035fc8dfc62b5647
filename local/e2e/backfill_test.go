//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// closes returns the final daily closes of a symbol at yfinance, see bars.
func (s *stack) closes(t *testing.T, symbol string, since time.Time) (prices, days []string) {
	t.Helper()
	prices, starts := s.bars(t, "yfinance", symbol, "1d", since)
	for _, at := range starts {
		days = append(days, at[:len(time.DateOnly)])
	}
	return prices, days
}

// bars returns the final closes of a series as the exchange has them now, and the starts of their bars, oldest first.
func (s *stack) bars(t *testing.T, provider, symbol, interval string, since time.Time) (prices, starts []string) {
	t.Helper()
	query := url.Values{
		"provider": {provider}, "symbol": {symbol}, "interval": {interval}, "start": {fmt.Sprint(since.Unix())}, "end": {fmt.Sprint(time.Now().Unix())},
	}
	status, body, _ := call(t, http.MethodGet, s.env["EXCHANGE_URL"]+"/_admin/bars?"+query.Encode(), "")
	require.Equal(t, http.StatusOK, status, string(body))
	var v struct {
		Bars []struct {
			Start time.Time
			Close json.Number
			Final bool
		}
	}
	require.NoError(t, json.Unmarshal(body, &v))
	for _, b := range v.Bars {
		if b.Final {
			prices, starts = append(prices, b.Close.String()), append(starts, b.Start.Format(time.RFC3339))
		}
	}
	return prices, starts
}

// mean is the exact mean of the last n prices of two decimals.
func mean(t *testing.T, prices []string, n int) string {
	t.Helper()
	sum := new(big.Rat)
	for _, p := range prices[len(prices)-n:] {
		v, ok := new(big.Rat).SetString(p)
		require.True(t, ok, p)
		sum.Add(sum, v)
	}
	text := sum.Quo(sum, big.NewRat(int64(n), 1)).FloatString(6)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// averageOf is the average of a bar series as the API has it, with its instant; empty while it is adjusting, or there is none.
func (s *stack) averageOf(t *testing.T, symbol string, window int) (average, asOf string) {
	t.Helper()
	status, body, _ := call(t, http.MethodGet, fmt.Sprintf("%s/averages/latest?symbol=%s&provider=yfinance-1d&window=%d", s.env["GATEWAY_URL"], symbol, window), "")
	var v struct {
		Average   json.Number
		AsOf      string `json:"as_of"`
		Complete  bool
		Adjusting bool
	}
	require.NoError(t, json.Unmarshal(body, &v))
	if status != http.StatusOK || !v.Complete || v.Adjusting {
		return "", ""
	}
	return v.Average.String(), v.AsOf
}

func (s *stack) backfill(t *testing.T, body string) (location string) {
	t.Helper()
	status, answer, header := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/prices/backfill", body, "Content-Type", "application/json")
	require.Equal(t, http.StatusAccepted, status, string(answer))
	return header.Get("Location")
}

// settled waits until all points of a series are the exchange's closes, and the averages are exact.
func (s *stack) settled(t *testing.T, symbol string, since time.Time) {
	t.Helper()
	var got, want []string
	require.Eventually(t, func() bool {
		prices, days := s.closes(t, symbol, since)
		want = nil
		for i := range days {
			want = append(want, days[i]+" "+new(big.Rat).SetFrac(cents(t, prices[i]), big.NewInt(100)).FloatString(2))
		}
		const q = `select to_char(observed_at at time zone 'UTC', 'YYYY-MM-DD') || ' ' || price::numeric(40, 2) from price_points
			where symbol = $1 and provider = 'yfinance-1d' order by observed_at`
		got = s.rows(t, q, symbol)
		average, asOf := s.averageOf(t, symbol, 50)
		return fmt.Sprint(got) == fmt.Sprint(want) && average == mean(t, prices, 50) && asOf == days[len(days)-1]+"T00:00:00Z"
	}, time.Minute, 100*time.Millisecond, "%s: %d points, want %d", symbol, len(got), len(want))
}

func cents(t *testing.T, price string) *big.Int {
	t.Helper()
	v, ok := new(big.Rat).SetString(price)
	require.True(t, ok)
	return v.Mul(v, big.NewRat(100, 1)).Num()
}

// Twenty years of daily closes, from the request to the exact SMA(50); then splits while functions are killed, and a downtime.
func TestBackfill(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t))
	since := time.Now().UTC().Truncate(24*time.Hour).AddDate(-20, 0, 0)

	began := time.Now()
	location := s.backfill(t, fmt.Sprintf(`{"symbols":["AAPL"],"provider":"yfinance","interval":"1d","start":%q}`, since.Format(time.DateOnly)))
	prices, days := s.closes(t, "AAPL", since)
	require.Greater(t, len(days), 4500)
	want := mean(t, prices, 50)
	require.Eventually(t, func() bool { average, _ := s.averageOf(t, "AAPL", 50); return average == want }, 30*time.Second, 20*time.Millisecond)
	newest := time.Since(began)
	s.settled(t, "AAPL", since)
	t.Logf("%d closes: SMA(50) is exact after %v, all points are there after %v", len(days), newest.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	status, v := s.get(t, location)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "active", v["status"])

	t.Run("every provider", func(t *testing.T) { everyProvider(t, s) }) //nolint:paralleltest // in order
	t.Run("splits, and replicas that are killed", func(t *testing.T) {  //nolint:paralleltest // in order
		for i, c := range []string{
			`{"symbol":"AAPL","at":"2020-08-31T13:30:00Z","numerator":2,"denominator":1}`,
			`{"symbol":"AAPL","at":"2014-06-09T13:30:00Z","numerator":11,"denominator":10}`, "taken back",
		} {
			if c == "taken back" {
				status, _, _ := call(t, http.MethodDelete, s.env["EXCHANGE_URL"]+"/_admin/splits", "")
				require.Equal(t, http.StatusNoContent, status)
			} else {
				status, body, _ := call(t, http.MethodPut, s.env["EXCHANGE_URL"]+"/_admin/splits", c)
				require.Equal(t, http.StatusNoContent, status, string(body))
			}
			_, err := s.pool.Exec(t.Context(), "update backfill_series set not_before = now(), check_at = now() where series = 'yfinance-1d'") // a day later
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return len(s.rows(t, "select symbol from bar_series where generation = $1", i+1)) == 1
			}, 20*time.Second, 10*time.Millisecond)
			for _, name := range []string{"poll", "compute-ma"} {
				for _, pid := range s.pids(t, name) {
					if i == 1 { // then the leases of poll have to expire
						require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
					}
				}
			}
			s.settled(t, "AAPL", since)
		}
	})

	t.Run("a downtime of two days", func(t *testing.T) { //nolint:paralleltest // in order
		lost := days[len(days)-2:]
		s.stop(t)
		again := start(t, s.dir)
		// What came in two days is taken away, and the series is where it was then.
		_, err := again.pool.Exec(t.Context(), "delete from price_points where provider = 'yfinance-1d' and observed_at >= $1::text::timestamptz", lost[0]+"T00:00:00Z")
		require.NoError(t, err)
		_, err = again.pool.Exec(t.Context(), `
			update backfill_series
			set next_from = $1::text::timestamptz, last_bar = $1::text::timestamptz - interval '1 day', bars = bars - 2, not_before = now() - interval '2 days',
			    recent = (select jsonb_agg(c) from jsonb_array_elements(recent) c where c->>'start' < $1::text)
			where series = 'yfinance-1d'`, lost[0]+"T00:00:00Z")
		require.NoError(t, err)
		began := time.Now()
		again.settled(t, "AAPL", since)
		require.Less(t, time.Since(began), 20*time.Second)
	})
}

// everyProvider fills a series of each provider that has a history, and compares it with the exchange.
func everyProvider(t *testing.T, s *stack) {
	t.Helper()
	series := []struct {
		provider, symbol, interval string
		days                       int
	}{
		{"yfinance", "MSFT", "1m", 5},
		{"yfinance", "IBM", "1h", 200},
		{"alpha_vantage", "IBM", "1d", 90},
		{"twelve_data", "AMZN", "15m", 60},
		{"binance", "BTCUSDT", "5m", 10},
		{"coinbase", "BTC-USD", "1h", 60},
	}
	since := func(days int) time.Time { return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -days) }
	for _, c := range series {
		s.backfill(t, fmt.Sprintf(`{"symbols":[%q],"provider":%q,"interval":%q,"start":%q}`, c.symbol, c.provider, c.interval, since(c.days).Format(time.DateOnly)))
	}
	for _, c := range series {
		name := c.provider + "-" + c.interval
		require.Eventually(t, func() bool {
			prices, starts := s.bars(t, c.provider, c.symbol, c.interval, since(c.days))
			var want []string
			for i := range starts[:len(starts)-2] { // the last ones may just have become final
				want = append(want, starts[i]+" "+new(big.Rat).SetFrac(cents(t, prices[i]), big.NewInt(100)).FloatString(2))
			}
			const q = `select to_char(observed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || ' ' || price::numeric(40, 2) from price_points
				where symbol = $1 and provider = $2 order by observed_at`
			got := s.rows(t, q, c.symbol, name)
			return len(got) >= len(want) && len(want) > 50 && fmt.Sprint(got[:len(want)]) == fmt.Sprint(want)
		}, time.Minute, 200*time.Millisecond, name)
	}
}

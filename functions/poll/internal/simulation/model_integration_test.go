//go:build integration

package simulation_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The model shares no code with the product: closes are the exchange's own, and means are calculated with exact rationals.

// windows are those of compute-ma, in points. 3 and 7 make means that do not end.
var windows = []int{3, 5, 7, 20, 50}

// bar is a close of the exchange, or a stored point.
type bar struct {
	Start time.Time   `json:"start"`
	Close json.Number `json:"close"`
	Final bool        `json:"final"`
}

func rational(n json.Number) *big.Rat {
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		panic("not a number: " + n.String())
	}
	return r
}

// sure is how long after the start of a bar its provider has certainly made it final: coins a minute after the interval, stocks when
// their delayed quotes have passed, and their days in New York.
func sure(s series) time.Duration {
	length := time.Hour
	if s.interval == "1d" {
		length = day
	}
	switch coin := s.provider == "binance" || s.provider == "coinbase"; {
	case coin:
		return length + time.Minute
	case s.interval == "1d":
		return length + 6*time.Hour
	default:
		return length + time.Hour
	}
}

// compare returns the first difference between what is stored and the exchange's bars, of which those that were final when the first tick
// came must be there, and none may still be due that was when the last one came.
func (w *world) compare(first, last time.Time) (difference string) {
	since := map[[3]string]time.Time{}
	for _, s := range w.followed {
		k := [3]string{s.provider, s.interval, s.symbol}
		if at, ok := since[k]; !ok || s.start.Before(at) {
			since[k] = s.start
		}
	}
	for _, s := range w.series {
		s.start = since[[3]string{s.provider, s.interval, s.symbol}]
		stored := w.points(s)
		var list struct{ Bars []bar }
		text := w.admin(http.MethodGet, fmt.Sprintf("/_admin/bars?provider=%s&symbol=%s&interval=%s&start=%d&end=%d",
			s.provider, s.symbol, s.interval, s.start.Unix(), time.Now().Unix()), "")
		require.NoError(w.t, json.Unmarshal([]byte(text), &list))
		var want []bar
		for _, b := range list.Bars {
			if !b.Final || b.Start.Before(s.start) {
				continue
			}
			isStored := slices.ContainsFunc(stored, func(p bar) bool { return p.Start.Equal(b.Start) })
			if isStored || !b.Start.Add(sure(s)).After(first) {
				want = append(want, b)
			}
		}
		difference = differ(want, stored)
		if difference == "" {
			difference = w.differInAverages(s, want)
		}
		if difference == "" {
			difference = w.unsettled(s, last)
		}
		if difference != "" {
			return fmt.Sprintf("%s-%s %s %s", s.provider, s.interval, s.symbol, difference)
		}
	}
	return ""
}

func differ(want, stored []bar) string {
	for i := range max(len(want), len(stored)) {
		switch {
		case i == len(stored) || i < len(want) && want[i].Start.Before(stored[i].Start):
			return fmt.Sprintf("%s: the exchange has %s, nothing is stored", want[i].Start.Format(time.DateTime), want[i].Close)
		case i == len(want) || stored[i].Start.Before(want[i].Start):
			return fmt.Sprintf("%s: %s is stored, the exchange has no final bar", stored[i].Start.Format(time.DateTime), stored[i].Close)
		case rational(want[i].Close).Cmp(rational(stored[i].Close)) != 0:
			return fmt.Sprintf("%s: the exchange has %s, stored is %s", want[i].Start.Format(time.DateTime), want[i].Close, stored[i].Close)
		}
	}
	return ""
}

// points returns what compute-ma has stored, in order.
func (w *world) points(s series) []bar {
	const q = "select observed_at, price::text from price_points where provider = $1 and symbol = $2 order by observed_at"
	rows, err := w.watcher.pool.Query(w.t.Context(), q, s.provider+"-"+s.interval, s.symbol)
	require.NoError(w.t, err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b bar, err error) {
		var price string
		err = row.Scan(&b.Start, &price)
		b.Start, b.Close = b.Start.UTC(), json.Number(price)
		return b, err
	})
	require.NoError(w.t, err)
	return all
}

func (w *world) differInAverages(s series, bars []bar) string {
	const q = "select average::text, points_used, as_of, oldest from symbol_averages where provider = $1 and symbol = $2 and window_size = $3"
	for _, size := range windows {
		var average string
		var used int
		var asOf, oldest time.Time
		err := w.watcher.pool.QueryRow(w.t.Context(), q, s.provider+"-"+s.interval, s.symbol, size).Scan(&average, &used, &asOf, &oldest)
		if err != nil {
			return fmt.Sprintf("the average of %d: %v", size, err)
		}
		newest := bars[max(0, len(bars)-size):]
		mean := mean(newest)
		if used != len(newest) || !asOf.Equal(newest[len(newest)-1].Start) || !oldest.Equal(newest[0].Start) || mean != rational(json.Number(average)).RatString() {
			return fmt.Sprintf("the average of %d is %s of %d points from %s to %s, not %s of %d", size, average, used,
				oldest.UTC().Format(time.DateTime), asOf.UTC().Format(time.DateTime), mean, len(newest))
		}
	}
	return ""
}

// mean returns a mean as a fraction: exact if its decimals end, else rounded to 12 places more than the closes have.
func mean(bars []bar) string {
	sum, places := new(big.Rat), 0
	for _, b := range bars {
		sum.Add(sum, rational(b.Close))
		if _, decimals, ok := strings.Cut(b.Close.String(), "."); ok {
			places = max(places, len(strings.TrimRight(decimals, "0")))
		}
	}
	sum.Quo(sum, new(big.Rat).SetInt64(int64(len(bars))))
	rest := new(big.Int).Set(sum.Denom())
	for _, prime := range []int64{2, 5} {
		p, m := big.NewInt(prime), new(big.Int)
		for q := new(big.Int); ; rest.Set(q) {
			if q.QuoRem(rest, p, m); m.Sign() != 0 {
				break
			}
		}
	}
	if rest.IsInt64() && rest.Int64() == 1 {
		return sum.RatString()
	}
	return rational(json.Number(sum.FloatString(places + 12))).RatString()
}

// unsettled says what poll has not finished for a series: after calm days nothing may fail, or still be due that was at the last tick.
func (w *world) unsettled(s series, last time.Time) string {
	const q = `
		select b.adjusting, (select count(*) from price_points p where p.symbol = b.symbol and p.provider = b.provider and p.raw_response_id < b.since),
		       (select count(*) from outbox),
		       (select count(*) from backfill_series f
		        where f.symbol = b.symbol and f.series = b.provider and (f.not_before <= $3 or f.last_code is not null))
		from bar_series b where b.provider = $1 and b.symbol = $2`
	var adjusting bool
	var old, waiting, due int
	row := w.watcher.pool.QueryRow(w.t.Context(), q, s.provider+"-"+s.interval, s.symbol, last)
	require.NoError(w.t, row.Scan(&adjusting, &old, &waiting, &due))
	if adjusting || old > 0 || waiting > 0 || due > 0 {
		return fmt.Sprintf("adjusting: %t, points from before a split: %d, events in the outbox: %d, backfills that are due or fail: %d",
			adjusting, old, waiting, due)
	}
	return ""
}

// budgets are the limits of the providers' free plans; a call of binance costs 2 of its 1200.
var budgets = map[string][]struct {
	calls  int
	window time.Duration
}{
	"alpha_vantage": {{1, time.Second}, {5, time.Minute}, {25, day}},
	"yfinance":      {{60, time.Minute}},
	"twelve_data":   {{8, time.Minute}, {800, day}},
	"binance":       {{600, time.Minute}},
	"coinbase":      {{10, time.Second}},
}

// overspent returns the first window that has more calls than a budget allows, wherever it begins. If Redis has lost its memory, that is
// promised for days of UTC only.
func (w *world) overspent() string {
	for provider, calls := range w.calls {
		slices.SortFunc(calls, time.Time.Compare)
		for _, limit := range budgets[provider] {
			for i := range len(calls) - limit.calls {
				from, to := calls[i].Truncate(time.Microsecond), calls[i+limit.calls].Truncate(time.Microsecond)
				within := to.Sub(from) < limit.window
				if w.forgot {
					within = limit.window == day && from.Truncate(day).Equal(to.Truncate(day))
				}
				if within {
					return fmt.Sprintf("%s is called more than %d times in %s: from %s to %s", provider, limit.calls, limit.window,
						from.UTC().Format(time.RFC3339Nano), to.UTC().Format(time.RFC3339Nano))
				}
			}
		}
	}
	return ""
}

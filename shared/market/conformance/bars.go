package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// Bars describes the history of one adapter.
type Bars struct {
	Splits   bool // answers list splits
	AsTraded bool // closes are not converted after a split
	Rounded  bool // closes went through a float, and are rounded

	// Close is the text of one close in testdata/bars/ok.http, and Bar the number of its bar in Recorded.
	Close string
	Bar   int
	// Recorded has the outcome of each file in testdata/bars.
	Recorded map[string]WantBars
}

// question is a call of Bars.
type question struct {
	interval market.Interval
	from, to time.Time
}

// sound checks what every history must satisfy.
func (q question) sound(t *testing.T, h market.History) {
	t.Helper()
	for i, b := range h.Bars {
		require.Equal(t, time.UTC, b.Start.Location())
		require.False(t, b.Start.Before(q.from) || !b.Start.Before(q.to), "%v is outside the range", b.Start)
		require.Equal(t, 1, b.Close.Cmp(market.Price{}), "a close is greater than 0")
		require.True(t, i == 0 || h.Bars[i-1].Start.Before(b.Start), "bars are in order, and each is there once")
		require.True(t, b.Final || i == len(h.Bars)-1, "only the last bar may be unfinished")
		if q.interval == market.Day {
			require.Equal(t, b.Start.Truncate(24*time.Hour), b.Start)
		}
	}
	for _, s := range h.Splits {
		require.Equal(t, time.UTC, s.At.Location())
		require.Positive(t, s.Numerator)
		require.Positive(t, s.Denominator)
	}
	if !h.Next.IsZero() {
		require.True(t, h.Next.After(q.from) && h.Next.Before(q.to), "the next part begins inside the range")
	}
}

// usualTime is in a session, two days after the clocks of New York changed.
var usualTime = time.Date(2026, 3, 10, 18, 7, 33, 0, time.UTC)

// otherTimes are the ends of shorter ranges. The clocks changed on 8 March and 1 November 2026.
var otherTimes = map[string]time.Time{
	"at the end of a session":         time.Date(2026, 3, 10, 20, 0, 0, 0, time.UTC),
	"after a session":                 time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC),
	"on the day of a change of clock": time.Date(2026, 3, 8, 7, 30, 0, 0, time.UTC),
	"before the first session after":  time.Date(2026, 11, 2, 12, 0, 1, 0, time.UTC),
	"on a holiday":                    time.Date(2026, 4, 3, 15, 0, 0, 0, time.UTC),
	"on a half day":                   time.Date(2026, 11, 27, 17, 59, 59, 0, time.UTC),
	"after a half day":                time.Date(2026, 11, 27, 18, 30, 0, 0, time.UTC),
	"at the turn of the year":         time.Date(2026, 12, 31, 23, 59, 30, 0, time.UTC),
}

// spans are the days of ranges that are larger than one answer of any provider with a limit.
var spans = map[market.Interval]int{market.Minute: 4, market.FiveMinutes: 18, market.QuarterHour: 55, market.Hour: 212, market.Day: 14 * 366}

// bars runs the suite on the adapter's history.
func (a Adapter) bars(t *testing.T) {
	t.Helper()
	for _, interval := range a.New(upstream.Config{}).(market.Historian).Intervals() {
		t.Run("bars of "+string(interval), func(t *testing.T) {
			t.Parallel()
			a.about(interval, usualTime, spans[interval]).walk(t)
		})
		if interval == market.Minute || interval == market.QuarterHour {
			continue // the same as 5m
		}
		days := 14
		if interval == market.Day {
			days = 400
		}
		for name, at := range otherTimes {
			t.Run("bars of "+string(interval)+" "+name, func(t *testing.T) {
				t.Parallel()
				a.about(interval, at, days).walk(t)
			})
		}
	}
	recent := a.about(market.Day, usualTime, 30)
	t.Run("ranges", func(t *testing.T) { t.Parallel(); recent.ranges(t) })
	t.Run("a split", func(t *testing.T) { t.Parallel(); recent.split(t) })
	t.Run("exchange", func(t *testing.T) { t.Parallel(); recent.exchange(t) })

	ok := a.Bars.Recorded["ok.http"]
	a.asks, a.now = &question{ok.Interval, ok.From, ok.To}, ok.Now
	t.Run("recorded", func(t *testing.T) { t.Parallel(); a.recordedBars(t) })
	t.Run("damaged", func(t *testing.T) { t.Parallel(); a.damagedBars(t) })
	t.Run("transport", func(t *testing.T) { t.Parallel(); a.transport(t) })
	t.Run("secrecy", func(t *testing.T) { t.Parallel(); a.secrecy(t) })
}

// about returns the adapter with a question about the days before now, until a day after it.
func (a Adapter) about(interval market.Interval, now time.Time, days int) Adapter {
	a.asks, a.now = &question{interval, now.AddDate(0, 0, -days), now.AddDate(0, 0, 1)}, now
	return a
}

// all fetches a range to its end.
func (a Adapter) all(t *testing.T, e http.Handler) market.History {
	t.Helper()
	p := a.adapter(t, e, "/"+a.Name, key, patience)
	var all market.History
	part := *a.asks
	a.asks = &part
	for calls := 0; ; calls++ {
		require.Less(t, calls, 100)
		r := a.ask(t.Context(), t, p, a.Symbol)
		require.NoError(t, r.err)
		if n := len(all.Bars); n > 0 && len(r.history.Bars) > 0 {
			require.True(t, all.Bars[n-1].Start.Before(r.history.Bars[0].Start), "no bar is in two parts")
		}
		all.Bars = append(all.Bars, r.history.Bars...)
		all.Splits = append(all.Splits, r.history.Splits...)
		if part.from = r.history.Next; part.from.IsZero() {
			return all
		}
	}
}

// truth returns the bars that the exchange has in the range of the question.
func (a Adapter) truth(t *testing.T, e http.Handler) []market.Bar {
	t.Helper()
	status, body := admin(t, e, http.MethodGet, fmt.Sprintf("/_admin/bars?provider=%s&symbol=%s&interval=%s&start=%d&end=%d",
		a.Name, a.Symbol, a.asks.interval, a.asks.from.Unix(), a.asks.to.Unix()), "")
	require.Equal(t, http.StatusOK, status, body)
	var list struct{ Bars []market.Bar }
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	return list.Bars
}

// walk fetches a range in parts, and compares it with what the exchange has.
func (a Adapter) walk(t *testing.T) {
	t.Helper()
	e := a.Exchange(a.clock)
	want, got := a.truth(t, e), a.all(t, e).Bars
	require.NotEmpty(t, want)
	require.Equal(t, closes(want), closes(got))
	last := len(got) - 1
	require.False(t, got[last].Final && !want[last].Final, "the last bar has not ended")

	a.now, a.asks.from = a.now.AddDate(0, 0, 3), want[last].Start
	got = a.all(t, a.Exchange(a.clock)).Bars
	require.Equal(t, want[last].Start, got[0].Start)
	require.True(t, got[0].Final, "the bar becomes final")
}

func closes(bars []market.Bar) []string {
	out := make([]string, len(bars))
	for i, b := range bars {
		out[i] = b.Start.Format(time.RFC3339) + " " + b.Close.String()
	}
	return out
}

// ranges asks for ranges without bars.
func (a Adapter) ranges(t *testing.T) {
	t.Helper()
	var calls atomic.Int64
	e := a.Exchange(a.clock)
	p := a.adapter(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		e.ServeHTTP(w, r)
	}), "/"+a.Name, key, patience)
	ask := func(t *testing.T, interval market.Interval, from, to time.Time) result {
		t.Helper()
		a.asks = &question{interval, from, to}
		calls.Store(0)
		return a.ask(t.Context(), t, p, a.Symbol)
	}
	for name, to := range map[string]time.Time{"empty": a.now, "reversed": a.now.Add(-time.Hour)} {
		h, resp, err := p.(market.Historian).Bars(t.Context(), a.Symbol, market.Day, a.now, to)
		require.NoError(t, err)
		require.Zero(t, h)
		require.Zero(t, resp)
		require.Zero(t, calls.Load(), "a range that is %s needs no call", name)
	}
	for name, from := range map[string]time.Time{
		"the future":         a.now.AddDate(0, 0, 1),
		"before the listing": time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		r := ask(t, market.Day, from, from.Add(48*time.Hour))
		require.NoError(t, r.err, name)
		require.Zero(t, r.history, name)
		require.Equal(t, int64(1), calls.Load())
	}
	saturday := time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC)
	r := ask(t, market.Day, saturday, saturday.Add(48*time.Hour))
	require.NoError(t, r.err)
	require.Equal(t, closes(a.truth(t, e)), closes(r.history.Bars))

	offered := p.(market.Historian).Intervals()
	for _, interval := range append([]market.Interval{"", "2m", "1w"}, market.Intervals...) {
		if slices.Contains(offered, interval) {
			continue
		}
		calls.Store(0)
		h, resp, err := p.(market.Historian).Bars(t.Context(), a.Symbol, interval, saturday, a.now)
		require.Equal(t, "invalid_parameter", fault.CodeOf(err), interval)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.Zero(t, h)
		require.Zero(t, resp)
		require.Zero(t, calls.Load())
	}
}

// split splits the stock four days ago.
func (a Adapter) split(t *testing.T) {
	t.Helper()
	e := a.Exchange(a.clock)
	before := a.all(t, e)
	require.Empty(t, before.Splits)
	at := time.Date(2026, 3, 6, 14, 30, 0, 0, time.UTC)
	status, _ := admin(t, e, http.MethodPut, "/_admin/splits",
		fmt.Sprintf(`{"symbol":%q,"at":%q,"numerator":4,"denominator":1}`, a.Symbol, at.Format(time.RFC3339)))
	if status == http.StatusBadRequest { // a pair of coins
		require.False(t, a.Bars.Splits)
		return
	}
	after := a.all(t, e)
	require.Equal(t, closes(a.truth(t, e)), closes(after.Bars))
	require.Equal(t, a.Bars.AsTraded, before.Bars[0].Close.Cmp(after.Bars[0].Close) == 0, "the past is converted")
	last := len(after.Bars) - 1
	require.Equal(t, 1, before.Bars[last].Close.Cmp(after.Bars[last].Close), "the present is in new shares")
	if a.Bars.Splits {
		require.Equal(t, []market.Split{{At: at, Numerator: 4, Denominator: 1}}, after.Splits)
		a.asks.from = at.Add(time.Hour)
		require.Equal(t, after.Splits, a.all(t, e).Splits, "a split that is listed late is seen")
	} else {
		require.Empty(t, after.Splits)
	}
	status, _ = admin(t, e, http.MethodDelete, "/_admin/splits?symbol="+string(a.Symbol), "")
	require.Equal(t, http.StatusNoContent, status)
	require.Empty(t, a.all(t, e).Splits)
}

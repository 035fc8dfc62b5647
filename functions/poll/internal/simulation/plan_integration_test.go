//go:build integration

package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// plan is what a seed makes happen. The last days are calm, because some waits are as long: a symbol that its provider does not know is
// asked for once a day, and so are splits of long ago.
type plan struct {
	begin, calm, end time.Time
	series           []series
	drafts           []string // bars that come late, or with another close at first
	happenings       []happening
	busy             []span // a tick comes at the beginning, and further ones as soon as they do in reality, if something is due
}

type series struct {
	provider, symbol, interval string
	start                      time.Time
}

type happening struct {
	at   time.Time
	what string
	do   func(*world)
}

type span struct{ from, to time.Time }

const (
	day       = 24 * time.Hour
	length    = 58 * day // and two days of downtime
	calmFor   = 4 * day
	overlap   = 10 // intervals in which a late bar or a correction must be seen
	mostPlays = 3
)

var outageKinds = []string{
	"error_5xx", "limit_minute", "limit_day", "html", "truncated", "bad_price", "timeout", "unknown_symbol", "bad_key", "extra_fields",
}

// menu lists what can be followed. Every simulation has the first two; alpha_vantage's budget is for one series.
var menu = []series{
	{provider: "alpha_vantage", symbol: "IBM", interval: "1d"},
	{provider: "yfinance", symbol: "AAPL", interval: "1d"},
	{provider: "yfinance", symbol: "MSFT", interval: "1d"},
	{provider: "yfinance", symbol: "GOOG", interval: "1h"},
	{provider: "twelve_data", symbol: "MSFT", interval: "1d"},
	{provider: "twelve_data", symbol: "AMZN", interval: "1h"},
	{provider: "binance", symbol: "BTCUSDT", interval: "1d"},
	{provider: "binance", symbol: "ETHUSDT", interval: "1h"},
	{provider: "coinbase", symbol: "ETH-USD", interval: "1d"},
	{provider: "coinbase", symbol: "BTC-USD", interval: "1h"},
}

func newPlan(rng *rand.Rand) plan {
	within := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
	change := clockChange(2018+rng.IntN(8), rng.IntN(2) == 0)
	var p plan
	p.begin = change.Add(-5*day - within(length-calmFor-10*day)).Truncate(time.Second)
	p.end = p.begin.Add(length)
	p.calm = p.end.Add(-calmFor)
	some := func() time.Time { return p.begin.Add(within(p.calm.Sub(p.begin))) }
	add := func(at time.Time, what string, do func(*world)) {
		p.happenings = append(p.happenings, happening{at, what, do})
	}
	until := func(at time.Time, d time.Duration) time.Time { // a time after at, before the calm
		if at = at.Add(d); at.After(p.calm) {
			return p.calm
		}
		return at
	}

	at := some()
	for _, from := range []time.Time{p.begin, change.Add(14 * time.Hour), at, at.Add(22 * time.Hour)} {
		p.busy = append(p.busy, span{from, from.Add(6 * time.Minute)}) // 22 hours later, the budget of a day is still spent
	}
	p.series = slices.Clone(menu[:2])
	for _, i := range rng.Perm(len(menu) - 2)[:rng.IntN(2)] {
		p.series = append(p.series, menu[2+i])
	}
	for i := range p.series {
		s := &p.series[i]
		s.start = p.begin.Add(-within(20 * day)).Truncate(time.Minute)
		if s.interval == "1d" {
			s.start = p.begin.Add(-20*day - within(100*day)).Truncate(time.Minute)
		}
		for range 3 {
			p.drafts = append(p.drafts, draft(rng, *s, p.begin, p.calm))
		}
	}
	again := p.series[1+rng.IntN(len(p.series)-1)]
	again.start = again.start.Add(-within(10 * day))
	unsplit := p.series[0] // alpha_vantage has no splits to look for, and only the newest 100 closes
	unsplit.start = p.begin
	for _, s := range []series{again, unsplit} {
		add(some(), "another backfill of "+s.symbol+" since "+s.start.Format(time.DateTime), func(w *world) { w.follow(s) })
	}
	add(at, "a job spends the budget of alpha_vantage", func(w *world) {
		w.poll("alpha_vantage", 10*time.Second, "IBM", "AAPL", "AMZN", "GOOG", "MSFT")
	})
	add(some(), "a job of yfinance", func(w *world) { w.poll("yfinance", time.Hour, "AAPL") })
	add(until(at, 10*day), "the jobs end", (*world).removeJobs)
	add(p.calm, "the jobs end", (*world).removeJobs)
	for range 2 + rng.IntN(mostPlays) {
		at, down := some(), within(72*time.Hour)
		add(at, "everything is down for "+down.String(), func(w *world) {
			w.tick(rng.IntN(2) == 0)
			w.upAt = until(at, down)
		})
	}
	for range 2 + rng.IntN(mostPlays) {
		at, provider, kind := some(), p.series[rng.IntN(len(p.series))].provider, outageKinds[rng.IntN(len(outageKinds))]
		add(at, provider+" fails: "+kind, func(w *world) { w.fail(provider, kind) })
		add(until(at, within(36*time.Hour)), provider+" answers again", func(w *world) { w.fail(provider, "") })
	}
	for range rng.IntN(mostPlays) {
		at := some()
		add(at, "the broker is down", func(w *world) { w.brokerDown = true })
		add(until(at, within(24*time.Hour)), "the broker is up", func(w *world) { w.brokerDown = false })
	}
	for range 1 + rng.IntN(mostPlays) {
		addSplit(rng, &p, some(), until)
	}
	if rng.IntN(4) == 0 {
		add(some(), "Redis loses its memory", func(w *world) {
			w.redis.FlushAll()
			w.forgot = true
		})
	}
	slices.SortStableFunc(p.happenings, func(a, b happening) int { return a.at.Compare(b.at) })
	return p
}

// clockChange returns the day on which New York's clocks are put forward, or back.
func clockChange(year int, forward bool) time.Time {
	month, sunday := time.November, 1
	if forward {
		month, sunday = time.March, 2
	}
	at := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	for ; at.Weekday() != time.Sunday; at = at.Add(day) {
	}
	return at.Add(time.Duration(sunday-1) * 7 * day)
}

// draft makes a bar late, or corrects it, before it is older than the overlap of answers. In some of these intervals there is no trading,
// then nothing happens.
func draft(rng *rand.Rand, s series, begin, calm time.Time) string {
	step, most := day, calm.Sub(begin)-overlap*day
	at := begin.Add(time.Duration(rng.Int64N(int64(most))))
	start := at.Truncate(day)
	if s.interval == "1h" {
		step = time.Hour
		if start = at.Truncate(time.Hour); s.provider == "yfinance" || s.provider == "twelve_data" {
			start = at.Truncate(day).Add(13*time.Hour + 30*time.Minute + time.Duration(rng.IntN(7))*time.Hour)
		}
	}
	change := 0
	if rng.IntN(2) == 0 {
		change = 1 + rng.IntN(40)
	}
	shown := start.Add(step + time.Duration(rng.Int64N(int64((overlap-1)*step))))
	return fmt.Sprintf(`{"provider":%q,"symbol":%q,"interval":%q,"start":%q,"until":%q,"change":%d}`,
		s.provider, s.symbol, s.interval, start.Format(time.RFC3339), shown.Format(time.RFC3339), change)
}

// addSplit splits a stock that is followed: announced before, or after with all closes changed, or known only long after it took effect.
// Some are taken back. Not IBM, whose closes are as traded: a split that is announced late or taken back would change closes that no
// provider changes.
func addSplit(rng *rand.Rand, p *plan, announced time.Time, until func(time.Time, time.Duration) time.Time) {
	var stocks []string
	for _, s := range p.series {
		if s.provider == "yfinance" || s.provider == "twelve_data" {
			stocks = append(stocks, s.symbol)
		}
	}
	symbol := stocks[rng.IntN(len(stocks))]
	ratio := [][2]int{{2, 1}, {3, 2}, {1, 10}, {11, 10}, {20, 1}}[rng.IntN(5)]
	at, known, takenBack := until(announced, time.Duration(rng.Int64N(int64(5*day)))), announced, rng.IntN(3) == 0
	switch before := time.Duration(rng.Int64N(int64(60 * day))); rng.IntN(3) {
	case 0:
		at = announced.Add(-before)
	case 1: // known when little else happens any more: another split or a second backfill would show it, too
		known = p.calm.Add(-time.Duration(rng.Int64N(int64(2 * day))))
		at, takenBack = known.Add(-(overlap+4)*day-before), false
		announced = later(at, p.begin)
	}
	body := splitOf(symbol, at.Truncate(day).Add(13*time.Hour+30*time.Minute), known, ratio)
	p.happenings = append(p.happenings, happening{announced, "split " + body, func(w *world) { w.admin(http.MethodPut, "/_admin/splits", body) }})
	if takenBack {
		back := until(announced, time.Duration(rng.Int64N(int64(10*day))))
		p.happenings = append(p.happenings, happening{back, "the splits of " + symbol + " are taken back", func(w *world) {
			w.admin(http.MethodDelete, "/_admin/splits?symbol="+symbol, "")
		}})
	}
}

func splitOf(symbol string, at, known time.Time, ratio [2]int) string {
	return fmt.Sprintf(`{"symbol":%q,"at":%q,"known":%q,"numerator":%d,"denominator":%d}`, symbol, at.Format(time.RFC3339), known.Format(time.RFC3339), ratio[0], ratio[1])
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

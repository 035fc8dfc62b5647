package exchange

import (
	"cmp"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed stocks.csv
var stocks string

// coins holds the pairs of binance and coinbase with the prices that their walks start from, in cents: about the closes of March
// 2024. They are listed since 2017.
var coins = map[string]int64{"BTC-USD": 7_133_365, "ETH-USD": 364_786}

// monthlyClose is a real close, in cents.
type monthlyClose struct {
	second int64
	cents  int64
}

// realCloses returns the closes that each instrument's walk follows, in order: the real closes of a stock, or the one price of a coin.
// An instrument is listed since the first.
func realCloses() map[string][]monthlyClose {
	rows, err := csv.NewReader(strings.NewReader(stocks)).ReadAll()
	if err != nil {
		panic("embedded stocks.csv: " + err.Error()) // impossible: the file is embedded
	}
	closes := map[string][]monthlyClose{}
	for _, row := range rows[1:] {
		month, err := time.Parse("Jan 2 2006", row[1])
		whole, frac, _ := strings.Cut(row[2], ".")
		cents, err2 := strconv.ParseInt(whole+(frac + "00")[:2], 10, 64)
		if err := errors.Join(err, err2); err != nil {
			panic("embedded stocks.csv: " + err.Error())
		}
		closes[row[0]] = append(closes[row[0]], monthlyClose{month.Unix(), cents})
	}
	for coin, cents := range coins {
		closes[coin] = onePrice(2017, cents)
	}
	return closes
}

// onePrice is the history of an instrument whose walk stays around one price since the beginning of a year.
func onePrice(year int, cents int64) []monthlyClose {
	return []monthlyClose{{time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC).Unix(), cents}}
}

func isCoin(instrument string) bool { _, known := coins[instrument]; return known }

// listed returns when the trading of an instrument began.
func (e *Exchange) listed(instrument string) time.Time {
	if closes := e.instruments[instrument]; len(closes) > 0 {
		return time.Unix(closes[0].second, 0).UTC()
	}
	return e.now().Add(oneDay) // unknown: not yet
}

// previous returns the newest of the real closes, which quotes give as the close of the day before.
func (e *Exchange) previous(instrument string) (cents int64) {
	if closes := e.instruments[instrument]; len(closes) > 0 {
		cents = closes[len(closes)-1].cents
	}
	return cents
}

// between returns the real price at a second: on a line between two monthly closes, and the last close after it.
func between(closes []monthlyClose, second int64) int64 {
	i, found := slices.BinarySearchFunc(closes, second, func(c monthlyClose, s int64) int { return cmp.Compare(c.second, s) })
	switch {
	case found:
		return closes[i].cents
	case i == len(closes):
		return closes[i-1].cents
	}
	a, b := closes[i-1], closes[i]
	return a.cents + (b.cents-a.cents)*(second-a.second)/(b.second-a.second)
}

// waves are the components of the walk: period in seconds, and largest deviation in hundredths of a percent.
var waves = []struct{ period, swing int64 }{{20_000, 800}, {3_000, 300}, {300, 100}, {40, 40}, {1, 15}}

// price is a pure function of seed, symbol and second: the real price, shifted by value noise of several periods. It moves like a
// price, stays within about 13 % of the real one, and can be computed for any time in any order. It is in shares of before all splits.
func (e *Exchange) price(symbol string, second int64) (cents int64, known bool) {
	closes := e.instruments[symbol]
	if len(closes) == 0 || second < closes[0].second {
		return 0, false
	}
	base := between(closes, second)
	shift := int64(0) // in millionths
	for i, w := range waves {
		step, into := second/w.period, second%w.period
		a, b := e.noise(symbol, i, step), e.noise(symbol, i, step+1)
		shift += w.swing * (a + (b-a)*into/w.period) / 10
	}
	return max(base+base*shift/1_000_000, 1), true
}

// noise returns a pseudo-random value in -1000..1000 that is fixed for its arguments.
func (e *Exchange) noise(symbol string, wave int, step int64) int64 {
	text := append(strconv.AppendUint(make([]byte, 0, 80), e.seed, 10), '/')
	text = append(append(text, symbol...), '/')
	text = append(strconv.AppendInt(text, int64(wave), 10), '/')
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendInt(text, step, 10)) // never fails
	x := h.Sum64()
	x ^= x >> 29 // FNV's low bits alone are too regular
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 32
	return int64(x%2001) - 1000
}

// decimalCents formats cents as a decimal number.
func decimalCents(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

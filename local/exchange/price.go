package exchange

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"
)

//go:embed stocks.csv
var stocks string

// coins holds the pairs of binance and coinbase with the prices that their walks start from, in cents: about the closes of March
// 2024.
var coins = map[string]int64{"BTC-USD": 7_133_365, "ETH-USD": 364_786}

// lastCloses returns the price that each instrument's walk starts from, in cents: the last real close of a stock (rows are sorted by
// date), or the price of a coin.
func lastCloses() map[string]int64 {
	rows, err := csv.NewReader(strings.NewReader(stocks)).ReadAll()
	if err != nil {
		panic("embedded stocks.csv: " + err.Error()) // impossible: the file is embedded
	}
	closes := map[string]int64{}
	for _, row := range rows[1:] {
		whole, frac, _ := strings.Cut(row[2], ".")
		var cents int64
		if _, err := fmt.Sscan(whole+(frac + "00")[:2], &cents); err != nil {
			panic("embedded stocks.csv: " + err.Error())
		}
		closes[row[0]] = cents
	}
	maps.Copy(closes, coins)
	return closes
}

func isCoin(instrument string) bool { _, known := coins[instrument]; return known }

// waves are the components of the walk: period in seconds, and largest deviation in hundredths of a percent.
var waves = []struct{ period, swing int64 }{{20_000, 800}, {3_000, 300}, {300, 100}, {40, 40}, {1, 15}}

// price is a pure function of seed, symbol and second: the last real close, shifted by value noise of several periods. It moves like
// a price, stays within about 13 % of the close, and can be computed for any time in any order.
func (e *Exchange) price(symbol string, second int64) (cents int64, known bool) {
	base, known := e.closes[symbol]
	if !known {
		return 0, false
	}
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

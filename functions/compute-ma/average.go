package main

import (
	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
)

// Kinds of moving average that a history can be asked for.
const (
	kindSMA = "sma" // simple: the mean
	kindWMA = "wma" // weighted: the newest point counts window times, the oldest once
	kindEMA = "ema" // exponential, seeded with the mean of the first window points (TA-Lib's classic way)
)

const (
	places      = 12 // digits after the point of a wma and an ema
	statePlaces = 30 // digits that an ema carries on: 18 past those shown, so that no chain of rounding reaches them
)

// sma gives the exact mean of each full window over points, oldest first; element i belongs to point i+window-1.
func sma(points []series.Point, window int) []decimal.Decimal {
	values := make([]series.Value, len(points))
	for i, p := range points {
		values[i] = p.Price
	}
	var out []decimal.Decimal
	run := series.NewWindow(values)
	for i, v := range values {
		run.Add(v)
		if i >= window {
			run.Remove(values[i-window])
		}
		if i >= window-1 {
			out = append(out, run.Mean().Decimal())
		}
	}
	return out
}

// wma gives the weighted average of each full window, as sma does: Σ i·p(i) / (1+2+…+window), i = 1 for the oldest point.
// Sums roll on: they are exact, so they do not drift. A tie rounds away from zero.
func wma(points []series.Point, window int) []decimal.Decimal {
	n, weights := decimal.NewFromInt(int64(window)), decimal.NewFromInt(int64(window)*int64(window+1)/2)
	var out []decimal.Decimal
	sum, weighted := decimal.Zero, decimal.Zero
	for i, p := range points {
		price := p.Price.Decimal()
		if i < window {
			weighted = weighted.Add(price.Mul(decimal.NewFromInt(int64(i + 1))))
			sum = sum.Add(price)
		} else {
			weighted = weighted.Add(price.Mul(n)).Sub(sum)
			sum = sum.Add(price).Sub(points[i-window].Price.Decimal())
		}
		if i >= window-1 {
			out = append(out, weighted.DivRound(weights, places))
		}
	}
	return out
}

// ema gives the exponential average after each point: ema + (price - ema) · 2/(window+1). Without a state, the first window
// points are the seed and give one value, their mean. Values are what the next step goes on from: [statePlaces] digits.
func ema(points []series.Point, window int, state *decimal.Decimal) []decimal.Decimal {
	var out []decimal.Decimal
	if state == nil {
		if len(points) < window {
			return nil
		}
		seed := sma(points[:window], window)[0].Round(statePlaces)
		out, state, points = append(out, seed), &seed, points[window:]
	}
	old, both := decimal.NewFromInt(int64(window-1)), decimal.NewFromInt(int64(window+1))
	now := *state
	for _, p := range points {
		now = now.Mul(old).Add(p.Price.Decimal().Add(p.Price.Decimal())).DivRound(both, statePlaces)
		out = append(out, now)
	}
	return out
}

package series

import "github.com/shopspring/decimal"

const (
	// Places is the number of digits after the point of a weighted or exponential average.
	Places = 12
	// StatePlaces is the number of digits after the point that [EMA] carries from step to step: 18 more than are shown, so that
	// accumulated rounding never reaches a shown digit.
	StatePlaces = 30
)

// SMA returns the exact mean of each full window of points, which are oldest first; element i belongs to point i+window-1.
func SMA(points []Point, window int) []decimal.Decimal {
	values := make([]Value, len(points))
	for i, p := range points {
		values[i] = p.Price
	}
	var out []decimal.Decimal
	run := NewWindow(values)
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

// WMA returns the weighted average of each full window, in the order of [SMA]: Σ i·p(i) / (1+2+…+window), where i = 1 is the
// oldest point. The running sums are exact, so they do not drift. Results have [Places] digits; a tie rounds away from zero.
func WMA(points []Point, window int) []decimal.Decimal {
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
			out = append(out, weighted.DivRound(weights, Places))
		}
	}
	return out
}

// EMA returns the exponential average after each point: ema + (price - ema) · 2/(window+1). A nil state starts a new average: the
// first window points seed it with their mean, as TA-Lib's classic mode does, and yield one value. A value can be passed as the
// state of a later call; it has [StatePlaces] digits.
func EMA(points []Point, window int, state *decimal.Decimal) []decimal.Decimal {
	var out []decimal.Decimal
	if state == nil {
		if len(points) < window {
			return nil
		}
		seed := SMA(points[:window], window)[0].Round(StatePlaces)
		out, state, points = append(out, seed), &seed, points[window:]
	}
	old, both := decimal.NewFromInt(int64(window-1)), decimal.NewFromInt(int64(window+1))
	now := *state
	for _, p := range points {
		now = now.Mul(old).Add(p.Price.Decimal().Add(p.Price.Decimal())).DivRound(both, StatePlaces)
		out = append(out, now)
	}
	return out
}

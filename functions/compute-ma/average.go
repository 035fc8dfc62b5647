package main

import (
	"math/big"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/shared/market"
)

const (
	maxWindow   = 50 // points in the largest window: bounds what one event has to read
	extraPlaces = 12 // digits past the points' greatest scale, for means that do not end
)

// point is one stored price of a series.
type point struct {
	observedAt time.Time
	price      market.Price
}

// average is the mean of the newest points of a series within one window.
type average struct {
	window, pointsUsed int
	mean               market.Price
	asOf, oldest       time.Time
}

// averages computes each window's mean from a series' newest points, newest first. A window larger than the series
// uses what there is; pointsUsed tells.
func averages(points []point, windows []int) []average {
	out := make([]average, 0, len(windows))
	for _, w := range windows {
		n := min(w, len(points))
		if n == 0 {
			continue
		}
		prices := make([]market.Price, n)
		for i := range n {
			prices[i] = points[i].price
		}
		out = append(out, average{w, n, mean(prices), points[0].observedAt, points[n-1].observedAt})
	}
	return out
}

// mean is exact where the decimal expansion of sum/n ends, to its last digit; where it does not end it is rounded to
// the prices' greatest scale + 12 places (a tie cannot arise: it would end). prices must not be empty.
func mean(prices []market.Price) market.Price {
	sum, scale := decimal.Zero, int32(0)
	for _, p := range prices {
		sum = sum.Add(p.Decimal())
		scale = max(scale, p.Scale())
	}
	n := int64(len(prices))
	q := new(big.Rat).SetFrac(sum.Shift(scale).BigInt(), big.NewInt(n)) // sum·10^scale / n, reduced
	places := extraPlaces
	if twos, fives, ends := factors(q.Denom().Int64()); ends {
		places = max(twos, fives) // a fraction over 2^a·5^b has exactly max(a, b) decimal places
	}
	scaled := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)
	scaled.Mul(scaled, q.Num())
	quotient, remainder := new(big.Int).QuoRem(scaled, q.Denom(), new(big.Int))
	if remainder.Lsh(remainder, 1).Cmp(q.Denom()) >= 0 {
		quotient.Add(quotient, big.NewInt(1))
	}
	return market.NewPrice(decimal.NewFromBigInt(quotient, -scale-int32(places)))
}

// factors counts the factors 2 and 5 of n ≥ 1; ends reports that there are no others.
func factors(n int64) (twos, fives int, ends bool) {
	for ; n%2 == 0; n /= 2 {
		twos++
	}
	for ; n%5 == 0; n /= 5 {
		fives++
	}
	return twos, fives, n == 1
}

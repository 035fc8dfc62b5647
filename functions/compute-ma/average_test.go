package main

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

func prices(t *testing.T, texts ...string) []market.Price {
	t.Helper()
	out := make([]market.Price, len(texts))
	for i, s := range texts {
		p, err := market.ParsePrice(s)
		require.NoError(t, err)
		out[i] = p
	}
	return out
}

func TestMean(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prices []string
		want   string
	}{
		"one":                        {[]string{"150.25"}, "150.25"},
		"ends":                       {[]string{"1", "2"}, "1.5"},
		"ends, deep":                 {[]string{"0.000000000000000001", "0.000000000000000002"}, "0.0000000000000000015"},
		"never ends: scale 0 + 12":   {[]string{"1", "1", "2"}, "1.333333333333"},
		"never ends: rounds up":      {[]string{"1", "2", "2"}, "1.666666666667"},
		"never ends: greatest scale": {[]string{"0.1", "0.25", "1"}, "0.45"},
		"never ends: scale 2 + 12":   {[]string{"0.01", "0.01", "0.02"}, "0.01333333333333"},
		"divisible though over 3":    {[]string{"1", "2", "3"}, "2"},
		"over 6, reduced to halves":  {[]string{"1", "1", "1", "1", "1", "4"}, "1.5"},
		"nothing lost between sizes": {[]string{"99999999999999999999", "0.000000000000000001"}, "49999999999999999999.5000000000000000005"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, mean(prices(t, c.prices...)).String())
		})
	}
}

// The mean against exact rationals: it is the nearest decimal of its scale, and exact wherever one exists.
func TestMeanAgainstRationals(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		n := 1 + rng.IntN(maxWindow)
		all, sum, scale := make([]market.Price, n), new(big.Rat), int32(0)
		for i := range all {
			all[i] = market.NewPrice(decimal.New(1+rng.Int64N(1e12), -int32(rng.IntN(19))))
			sum.Add(sum, all[i].Decimal().Rat())
			scale = max(scale, all[i].Scale())
		}
		want := sum.Quo(sum, big.NewRat(int64(n), 1))
		got := mean(all)
		if _, _, ends := factors64(want.Denom()); ends {
			require.Zero(t, want.Cmp(got.Decimal().Rat()), "%v", all)
			continue
		}
		require.LessOrEqual(t, got.Scale(), scale+extraPlaces)
		gap := new(big.Rat).Sub(want, got.Decimal().Rat())
		unit := decimal.New(1, -scale-extraPlaces).Rat()
		require.Negative(t, gap.Abs(gap).Cmp(unit.Quo(unit, big.NewRat(2, 1))), "%v", all)
	}
}

func factors64(n *big.Int) (twos, fives int, ends bool) {
	n = new(big.Int).Set(n)
	for _, f := range []int64{2, 5} {
		for {
			q, r := new(big.Int).QuoRem(n, big.NewInt(f), new(big.Int))
			if r.Sign() != 0 {
				break
			}
			n = q
		}
	}
	return 0, 0, n.Cmp(big.NewInt(1)) == 0
}

// TA-Lib's regression series; expected values from its own test, completed by exact arithmetic.
func TestTALibVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/talib_close252.txt")
	require.NoError(t, err)
	closes := prices(t, strings.Split(string(bytes.TrimSpace(raw)), ",")...)
	require.Len(t, closes, 252)
	sma := func(window, index int) string {
		return mean(closes[index : index+window]).Decimal().StringFixed(4)
	}
	require.Equal(t, "93.9130", sma(5, 0))
	require.Equal(t, "109.0360", sma(5, 247))
	for i, want := range map[int]string{0: "93.1575", 1: "94.5950", 2: "94.7350", 250: "108.3100"} {
		require.Equal(t, want, sma(2, i))
	}
	for i, want := range map[int]string{0: "90.4263", 1: "90.2180", 2: "89.9617", 29: "87.1217", 221: "107.9530", 222: "108.4237"} {
		require.Equal(t, want, sma(30, i))
	}
}

func TestTulipVector(t *testing.T) {
	t.Parallel()
	in := prices(t, strings.Fields("81.59 81.06 82.87 83.00 83.61 83.15 82.84 83.99 84.55 84.36 85.53 86.54 86.89 87.77 87.29")...)
	want := strings.Fields("82.426 82.738 83.094 83.318 83.628 83.778 84.254 84.994 85.574 86.218 86.804")
	for i, w := range want {
		require.Equal(t, w, mean(in[i:i+5]).String())
	}
}

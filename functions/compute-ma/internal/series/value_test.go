package series_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
)

func values(t *testing.T, texts ...string) []series.Value {
	t.Helper()
	out := make([]series.Value, len(texts))
	for i, s := range texts {
		d, err := decimal.NewFromString(s)
		require.NoError(t, err)
		out[i] = series.NewValue(d)
	}
	return out
}

func TestMean(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prices []string
		want   string
	}{
		"one":                         {[]string{"150.25"}, "150.25"},
		"ends":                        {[]string{"1", "2"}, "1.5"},
		"ends, deep":                  {[]string{"0.000000000000000001", "0.000000000000000002"}, "0.0000000000000000015"},
		"never ends: scale 0 + 12":    {[]string{"1", "1", "2"}, "1.333333333333"},
		"never ends: rounds up":       {[]string{"1", "2", "2"}, "1.666666666667"},
		"never ends: greatest scale":  {[]string{"0.1", "0.25", "1"}, "0.45"},
		"never ends: scale 2 + 12":    {[]string{"0.01", "0.01", "0.02"}, "0.01333333333333"},
		"never ends: carries over":    {[]string{"2.99999999999999", "3", "3.00000000000000"}, "2.99999999999999666666666667"},
		"divisible though over 3":     {[]string{"1", "2", "3"}, "2"},
		"over 6, reduced to halves":   {[]string{"1", "1", "1", "1", "1", "4"}, "1.5"},
		"nothing lost between sizes":  {[]string{"99999999999999999999", "0.000000000000000001"}, "49999999999999999999.5000000000000000005"},
		"a sum that no word can hold": {[]string{"18446744073709551615", "18446744073709551615", "1"}, "12297829382473034410.333333333333"},
		"a mean that no word holds":   {[]string{"18446744073709551615", "18446744073709551612"}, "18446744073709551613.5"},
		"a last digit too many":       {[]string{"1844674407370955161", "1844674407370955161", "1844674407370955163"}, "1844674407370955161.666666666667"},
		"scales 20 places apart":      {[]string{"2", "2e-20"}, "1.00000000000000000001"},
		"less than one":               {[]string{"0.5", "0.000000000000000001"}, "0.2500000000000000005"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, series.Mean(values(t, c.prices...)).String())
		})
	}
}

// randomDecimal is a price: 1 to 38 digits, up to 18 of them after the point.
func randomDecimal(rng *rand.Rand) decimal.Decimal {
	digits := new(big.Int)
	for range 1 + rng.IntN(38) {
		digits.Mul(digits, big.NewInt(10)).Add(digits, big.NewInt(rng.Int64N(10)))
	}
	if digits.Sign() == 0 {
		digits.SetInt64(1)
	}
	return decimal.NewFromBigInt(digits, -rng.Int32N(19))
}

// The mean against exact rationals: it is the nearest decimal of its scale, and exact wherever one exists.
func TestMeanAgainstRationals(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 5_000 {
		n := 1 + rng.IntN(series.MaxPoints)
		all, sum, scale := make([]series.Value, n), new(big.Rat), int32(0)
		for j := range all {
			d := decimal.New(1+rng.Int64N(1e12), -int32(rng.IntN(7))) // mostly of a size that fits a word
			if i%4 == 0 {
				d = randomDecimal(rng)
			}
			all[j] = series.NewValue(d)
			require.Zero(t, d.Cmp(all[j].Decimal()))
			sum.Add(sum, d.Rat())
			scale = max(scale, -all[j].Decimal().Exponent())
		}
		want := sum.Quo(sum, big.NewRat(int64(n), 1))
		got := series.Mean(all).Decimal()
		if ends(want.Denom()) {
			require.Zero(t, want.Cmp(got.Rat()), "%v", all)
			continue
		}
		require.LessOrEqual(t, -got.Exponent(), scale+12)
		gap := new(big.Rat).Sub(want, got.Rat())
		unit := decimal.New(1, -scale-12).Rat()
		require.Negative(t, gap.Abs(gap).Cmp(unit.Quo(unit, big.NewRat(2, 1))), "%v", all)
	}
}

// ends reports that a fraction with this denominator, in lowest terms, has a decimal expansion that ends.
func ends(denominator *big.Int) bool {
	n := new(big.Int).Set(denominator)
	for _, f := range []int64{2, 5} {
		for {
			q, r := new(big.Int).QuoRem(n, big.NewInt(f), new(big.Int))
			if r.Sign() != 0 {
				break
			}
			n = q
		}
	}
	return n.Cmp(big.NewInt(1)) == 0
}

func TestValueHasOneFormForEqualNumbers(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{{"1500", "1.5e3", "1500.00"}, {"0.25", "0.2500", "25e-2"}, {"36893488147419103232", "36893488147419103232.000"}} {
		first := values(t, same[0])[0]
		for _, v := range values(t, same...) {
			require.Equal(t, first, v)
		}
	}
	require.Equal(t, "0.000000000000000001", values(t, "1e-18")[0].String())
	require.Equal(t, "99999999999999999999.999999999999999999", values(t, "99999999999999999999.999999999999999999")[0].String())
}

// Most means are computed in machine words.
func TestMeansOfWordsDoNotAllocate(t *testing.T) { //nolint:paralleltest // counts allocations
	for want, all := range map[string][]series.Value{
		"1.35":                 values(t, "1.2", "1.5"),
		"1.333333333333":       values(t, "1", "1", "2"),
		"18446744073709551615": values(t, "18446744073709551615"),
	} {
		run := series.NewWindow(all)
		for _, v := range all {
			run.Add(v)
		}
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if run.Mean() != series.Mean(all) {
				panic("another mean")
			}
		}), want)
		require.Equal(t, want, run.Mean().String())
	}
}

func BenchmarkMean(b *testing.B) {
	small := make([]series.Value, series.MaxPoints)
	wide := make([]series.Value, series.MaxPoints)
	for i := range small {
		small[i] = series.NewValue(decimal.New(15025+int64(i), -2))
		wide[i] = series.NewValue(decimal.NewFromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil), -12).Add(decimal.New(int64(i)+1, -12)))
	}
	for name, all := range map[string][]series.Value{"words": small, "wide": wide} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				series.Mean(all)
			}
		})
	}
}

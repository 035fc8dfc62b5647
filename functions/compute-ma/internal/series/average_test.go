package series_test

import (
	"bytes"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
)

// closes makes a series of prices, one a second.
func closes(t *testing.T, texts ...string) []series.Point {
	t.Helper()
	out := make([]series.Point, len(texts))
	for i, p := range model.Prices(t, texts...) {
		out[i] = series.Point{At: int64(i) * 1e6, Price: series.NewValue(p.Decimal())}
	}
	return out
}

func fixed(values []decimal.Decimal, places int32) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.StringFixed(places)
	}
	return out
}

// talib is the 252 daily closes of TA-Lib's regression test; expected values from that test, completed by exact arithmetic.
func talib(t *testing.T) []series.Point {
	t.Helper()
	raw, err := os.ReadFile("testdata/talib_close252.txt")
	require.NoError(t, err)
	points := closes(t, strings.Split(string(bytes.TrimSpace(raw)), ",")...)
	require.Len(t, points, 252)
	return points
}

func requireAt(t *testing.T, got []string, want map[int]string) {
	t.Helper()
	for i, w := range want {
		require.Equal(t, w, got[i], "index %d", i)
	}
}

func TestTALibVector(t *testing.T) {
	t.Parallel()
	points := talib(t)
	requireAt(t, fixed(series.SMA(points, 5), 4), map[int]string{0: "93.9130", 247: "109.0360"})
	requireAt(t, fixed(series.SMA(points, 2), 4), map[int]string{0: "93.1575", 1: "94.5950", 2: "94.7350", 250: "108.3100"})
	requireAt(t, fixed(series.SMA(points, 30), 4), map[int]string{
		0: "90.4263", 1: "90.2180", 2: "89.9617", 29: "87.1217", 221: "107.9530", 222: "108.4237",
	})
	requireAt(t, fixed(series.WMA(points, 30), 4), map[int]string{0: "88.5677", 1: "88.2338", 2: "88.0342", 29: "87.1912"})
	require.Len(t, series.WMA(points, 30), 223)
	requireAt(t, fixed(series.EMA(points, 10, nil), 4), map[int]string{0: "93.2255", 1: "93.7527", 20: "86.4637", 242: "108.9752"})
	require.Len(t, series.EMA(points, 10, nil), 243)
}

func TestTulipVector(t *testing.T) {
	t.Parallel()
	points := closes(t, strings.Fields("81.59 81.06 82.87 83.00 83.61 83.15 82.84 83.99 84.55 84.36 85.53 86.54 86.89 87.77 87.29")...)
	want := strings.Fields("82.426 82.738 83.094 83.318 83.628 83.778 84.254 84.994 85.574 86.218 86.804")
	for i, v := range series.SMA(points, 5) {
		require.Equal(t, want[i], v.String(), "exact")
	}
	require.Equal(t, strings.Fields("82.825 83.066 83.100 83.399 83.809 84.053 84.637 85.399 86.031 86.763 87.121"), fixed(series.WMA(points, 5), 3))
}

func TestWindowsThatAreNotFullHaveNoAverage(t *testing.T) {
	t.Parallel()
	four := closes(t, "1", "2", "3", "4")
	require.Empty(t, series.SMA(four, 5))
	require.Empty(t, series.WMA(four, 5))
	require.Empty(t, series.EMA(four, 5, nil))
	require.Len(t, series.SMA(four, 4), 1)
	require.Equal(t, []string{"3.0"}, fixed(series.WMA(four, 4), 1))
	require.Equal(t, []string{"2.5"}, fixed(series.EMA(four, 4, nil), 1))
	require.Equal(t, []string{"1", "2", "3", "4"}, fixed(series.EMA(four, 1, nil), 0), "of one point the average is the price")
}

func TestDigitsOfAverages(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1.833333333333", series.WMA(closes(t, "1", "2", "2"), 3)[0].String())
	require.Equal(t, "1.666666666666666666666666666667", series.EMA(closes(t, "1", "1", "2"), 2, nil)[1].String(), "18 more than are shown")
}

// An ema can be cut anywhere: going on from its state gives the very digits.
func TestEMAGoesOnFromItsState(t *testing.T) {
	t.Parallel()
	points := talib(t)
	whole := series.EMA(points, 7, nil)
	for _, cut := range []int{7, 8, 100, 251} {
		first := series.EMA(points[:cut], 7, nil)
		rest := series.EMA(points[cut:], 7, &first[len(first)-1])
		require.Equal(t, fixed(whole, series.StatePlaces), fixed(append(first, rest...), series.StatePlaces))
	}
}

// Every shown digit is that of the exact average: what is rounded from step to step never adds up to one.
func TestEMAIsExactInEveryShownDigit(t *testing.T) {
	t.Parallel()
	const window = 7
	points := talib(t)
	got := series.EMA(points, window, nil)
	exact := new(big.Rat)
	for i, p := range points {
		price := p.Price.Decimal().Rat()
		if i < window {
			exact.Add(exact, price.Quo(price, big.NewRat(window, 1)))
		} else {
			exact.Add(exact, price.Mul(price.Sub(price, exact), big.NewRat(2, window+1)))
		}
		if i >= window-1 {
			require.Equal(t, exact.FloatString(series.Places), got[i-window+1].StringFixed(series.Places), "point %d", i)
		}
	}
}

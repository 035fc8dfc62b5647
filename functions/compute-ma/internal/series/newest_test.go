package series_test

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
)

func point(at int64, price string) series.Point {
	return series.Point{At: at, Price: series.NewValue(decimal.RequireFromString(price))}
}

// The value is a function of the set of points: any order and repetition gives the newest 50.
func TestNewestWhateverTheOrder(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		n := rng.IntN(120)
		all := make([]series.Point, n)
		for i := range all {
			all[i] = series.Point{At: int64(i) * rng.Int64N(1e9), Price: series.NewValue(randomDecimal(rng))}
			if i > 0 && all[i].At <= all[i-1].At {
				all[i].At = all[i-1].At + 1 // microsecond neighbours
			}
		}
		want := slices.Clone(all)
		slices.Reverse(want)
		want = want[:min(n, series.MaxPoints)]

		shuffled := append(slices.Clone(all), all[:n/3]...)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		var got series.Newest
		for _, p := range shuffled {
			got.Put(p)
			var err error
			got, err = series.Decode(got.Append(nil)) // as between two transactions
			require.NoError(t, err)
		}
		if n == 0 {
			require.Empty(t, got.Points)
			continue
		}
		require.Equal(t, want, got.Points)
	}
}

func TestPutSaysWhetherAnythingMoved(t *testing.T) {
	t.Parallel()
	var n series.Newest
	for i := range int64(series.MaxPoints) {
		require.True(t, n.Put(point(100+i, "1")))
	}
	require.False(t, n.Put(point(99, "5")), "older than all of a full set")
	require.True(t, n.Put(point(100, "2")), "a corrected price")
	require.Equal(t, point(100, "2"), n.Points[49], "of 50")
	require.True(t, n.Put(point(1000, "3")))
	require.Equal(t, int64(101), n.Points[series.MaxPoints-1].At, "the oldest makes room")
}

func TestAverages(t *testing.T) {
	t.Parallel()
	require.Empty(t, series.Newest{}.Averages([]int{5}))
	n := series.Newest{Points: []series.Point{point(30, "3"), point(20, "2"), point(10, "10")}}
	got := n.Averages([]int{2, 5})
	require.Equal(t, []series.Average{
		{Window: 2, PointsUsed: 2, Mean: point(0, "2.5").Price, AsOf: 30, Oldest: 20},
		{Window: 5, PointsUsed: 3, Mean: point(0, "5").Price, AsOf: 30, Oldest: 10},
	}, got)
	require.True(t, got[0].Complete())
	require.False(t, got[1].Complete(), "a partial mean says so")
}

// The encoding is stored: these bytes must stay readable.
func TestEncodingIsFixed(t *testing.T) {
	t.Parallel()
	n := series.Newest{Points: []series.Point{
		point(1710930600123456, "150.25"), point(1710930600123455, "99999999999999999999.999999999999999999"), point(0, "7"),
	}}
	want := "01" + "80f1beaaa2858a06" + "02" + "b175" + "01" + "12" + "00" + "10" + "4b3b4ca85a86c47a098a223fffffffff" + "fdf0beaaa2858a06" + "00" + "07"
	require.Equal(t, want, hex.EncodeToString(n.Append(nil)))
	raw, err := hex.DecodeString(want)
	require.NoError(t, err)
	got, err := series.Decode(raw)
	require.NoError(t, err)
	require.Equal(t, n.Points, got.Points)
}

// Bytes that Append does not make are refused: the points are read from their table instead.
func TestOtherBytesAreRefused(t *testing.T) {
	t.Parallel()
	encode := func(points ...series.Point) []byte { return series.Newest{Points: points}.Append(nil) }
	newer, wide := point(20, "1.5"), point(10, "99999999999999999999.999999999999999999")
	whole := encode(newer, wide)
	many := make([]series.Point, series.MaxPoints+1)
	for i := range many {
		many[i] = point(int64(len(many)-i), "1")
	}
	refused := map[string][]byte{
		"nothing":             {},
		"another version":     append([]byte{2}, whole[1:]...),
		"more behind":         append(slices.Clone(whole), 0),
		"oldest first":        encode(wide, newer),
		"one instant twice":   encode(newer, newer),
		"too many points":     encode(many...),
		"small value as wide": {1, 40, 0, 0, 1, 7},
		"length of zero":      {1, 40, 0, 0, 0},
		"a time too long":     {1, 128, 128, 128, 128, 128, 128, 128, 128, 128, 2},
	}
	for n := len(encode(newer)) + 1; n < len(whole); n++ {
		refused["cut at "+strconv.Itoa(n)] = whole[:n]
	}
	for name, b := range refused {
		_, err := series.Decode(b)
		require.ErrorIs(t, err, series.ErrEncoding, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{1})
	f.Add(series.Newest{Points: []series.Point{point(5, "1"), point(5, "2")}}.Append(nil))
	var many []series.Point
	for at := range series.MaxPoints + 1 {
		many = append([]series.Point{point(int64(at), "1")}, many...)
	}
	f.Add(series.Newest{Points: many}.Append(nil))
	f.Add(series.Newest{Points: []series.Point{point(5, "1.5"), point(4, "99999999999999999999.999999999999999999")}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := series.Decode(b)
		if err != nil {
			require.ErrorIs(t, err, series.ErrEncoding)
			return
		}
		require.LessOrEqual(t, len(n.Points), series.MaxPoints)
		for i := 1; i < len(n.Points); i++ {
			require.Greater(t, n.Points[i-1].At, n.Points[i].At)
		}
		again, err := series.Decode(n.Append(nil))
		require.NoError(t, err)
		require.Equal(t, n, again)
	})
}

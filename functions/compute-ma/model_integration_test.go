//go:build integration

package main

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

// model is what the tables must hold after a set of events, as a pure function of the set, by exact rationals and without
// any code of the product's: the lines that dump prints.
func model(events []priceevent.Observation, windows []int) string {
	type key struct {
		symbol, provider string
		at               int64
	}
	winners := map[key]priceevent.Observation{}
	for _, o := range events {
		k := key{string(o.Symbol), o.Provider, o.ObservedAt.UnixMicro()}
		w, taken := winners[k]
		if !taken || rankLess(w, o) {
			winners[k] = o
		}
	}
	var points []priceevent.Observation
	for _, o := range winners {
		points = append(points, o)
	}
	slices.SortFunc(points, func(a, b priceevent.Observation) int {
		return cmp.Or(cmp.Compare(a.Symbol, b.Symbol), cmp.Compare(a.Provider, b.Provider), a.ObservedAt.Compare(b.ObservedAt))
	})
	var lines, averages []string
	for i, o := range points {
		lines = append(lines, fmt.Sprintf("%s %s %d %s %s %d", o.Symbol, o.Provider, o.ObservedAt.UnixMicro(), o.Price, o.RawResponseID, o.Correction))
		if i+1 < len(points) && points[i+1].Symbol == o.Symbol && points[i+1].Provider == o.Provider {
			continue
		}
		first := i // of the series
		for first > 0 && points[first-1].Symbol == o.Symbol && points[first-1].Provider == o.Provider {
			first--
		}
		for _, w := range windows {
			used := points[max(first, i+1-w) : i+1]
			averages = append(averages, fmt.Sprintf("%s %s %d %s %d %t %d %d", o.Symbol, o.Provider, w, exactMean(used), len(used), len(used) == w,
				o.ObservedAt.UnixMicro(), used[0].ObservedAt.UnixMicro()))
		}
	}
	slices.Sort(averages)
	return strings.Join(append(lines, averages...), "\n")
}

func rankLess(a, b priceevent.Observation) bool {
	return cmp.Or(cmp.Compare(a.Correction, b.Correction), slices.Compare(a.RawResponseID[:], b.RawResponseID[:]), a.Price.Decimal().Cmp(b.Price.Decimal())) < 0
}

// exactMean prints the mean by design.md section 6, rule 2: exact if it ends, else rounded to the greatest scale + 12.
func exactMean(points []priceevent.Observation) string {
	sum, scale := new(big.Rat), 0
	for _, o := range points {
		sum.Add(sum, o.Price.Decimal().Rat())
		if _, fraction, found := strings.Cut(o.Price.String(), "."); found {
			scale = max(scale, len(fraction))
		}
	}
	mean := sum.Quo(sum, big.NewRat(int64(len(points)), 1))
	text := mean.FloatString(scale + 12) // half away from zero
	if digits, exact := mean.FloatPrec(); exact {
		text = mean.FloatString(digits)
	}
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// dump prints the tables of all symbols that begin with prefix, without our own clock: what must be the same after any
// schedule. In passing it checks that each series' row holds the newest points of the table.
func dump(t *testing.T, pool *pgxpool.Pool, prefix string) string {
	t.Helper()
	lines := []string{}
	for _, q := range []string{
		`select concat_ws(' ', symbol, provider, (extract(epoch from observed_at) * 1000000)::bigint, price, raw_response_id, correction)
			from price_points where starts_with(symbol, $1) order by symbol, provider, observed_at`,
		`select concat_ws(' ', symbol, provider, window_size, average, points_used, case when complete then 'true' else 'false' end,
			(extract(epoch from as_of) * 1000000)::bigint, (extract(epoch from oldest) * 1000000)::bigint) collate "C" as line
			from symbol_averages where starts_with(symbol, $1) order by line`,
	} {
		rows, err := pool.Query(t.Context(), q, prefix)
		require.NoError(t, err)
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			lines = append(lines, line)
		}
		require.NoError(t, rows.Err())
	}
	rows, err := pool.Query(t.Context(), "select symbol, provider, newest from price_series where starts_with(symbol, $1)", prefix)
	require.NoError(t, err)
	stored := map[seriesKey][]byte{}
	for rows.Next() {
		var k seriesKey
		var newest []byte
		require.NoError(t, rows.Scan(&k.symbol, &k.provider, &newest))
		stored[k] = newest
	}
	require.NoError(t, rows.Err())
	for k, bytes := range stored {
		want, err := readNewest(t.Context(), pool, k)
		require.NoError(t, err)
		if bytes == nil && len(want.Points) == 0 {
			continue // the row was made, its first point never came
		}
		got, err := series.Decode(bytes)
		require.NoError(t, err)
		require.Equal(t, want, got, "%v", k)
	}
	return strings.Join(lines, "\n")
}

// randomEvents makes a set that is full of trouble: few instants that are close together, some beyond the largest window,
// several events for one point at equal and unequal price, the same response twice, corrections, wide and narrow prices.
func randomEvents(t *testing.T, rng *rand.Rand, prefix string) []priceevent.Observation {
	t.Helper()
	base := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		ids[i] = uuid.UUID{0: byte(rng.IntN(256)), 6: 0x70, 8: 0x80, 15: byte(i)}
	}
	instants := 1 + rng.IntN(12)
	if rng.IntN(5) == 0 {
		instants = 80 // more than the largest window
	}
	step := []time.Duration{time.Microsecond, time.Second, 24 * time.Hour}[rng.IntN(3)]
	out := make([]priceevent.Observation, 1+rng.IntN(3*instants))
	for i := range out {
		o := priceevent.Observation{
			Symbol: market.Symbol(fmt.Sprintf("%s.%d", prefix, rng.IntN(3))), Provider: []string{"yfinance", "finnhub"}[rng.IntN(2)],
			ObservedAt: base.Add(step * time.Duration(rng.IntN(instants))), RawResponseID: ids[rng.IntN(len(ids))],
			Price: market.NewPrice(decimal.New(1+rng.Int64N(1_000_000), -rng.Int32N(7))),
		}
		if rng.IntN(8) == 0 {
			o.Correction = rng.IntN(3)
		}
		if rng.IntN(20) == 0 {
			o.Price = prices(t, "99999999999999999999.999999999999999999")[0]
		}
		out[i] = o
	}
	return out
}

// Package model says what compute-ma's tables must hold after a set of events. Tests compare the product with it; it shares no code
// with the product but the types.
package model

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
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

// Tables returns the lines that [Dump] prints after a set of events. It is a pure function of the set, and calculates with exact
// rationals.
func Tables(events []priceevent.Observation, windows []int) string {
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

// exactMean prints the mean: exact if its expansion ends, otherwise rounded to the greatest scale of the points + 12 places.
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

// Dump prints the points and averages of all symbols that begin with prefix, without the columns that depend on the clock. It
// also requires that the row of each series holds the newest points of the table.
func Dump(t *testing.T, pool *pgxpool.Pool, prefix string) string {
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
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		lines = append(lines, got...)
	}
	requireNewest(t, pool, prefix)
	return strings.Join(lines, "\n")
}

func requireNewest(t *testing.T, pool *pgxpool.Pool, prefix string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		select s.symbol, s.provider, s.newest, n.points
		from price_series s
		cross join lateral (
			select array_agg(concat_ws(' ', (extract(epoch from observed_at) * 1000000)::bigint, price) order by observed_at desc) as points
			from (
				select observed_at, price
				from price_points p
				where p.symbol = s.symbol and p.provider = s.provider
				order by observed_at desc
				limit $2) p) n
		where starts_with(s.symbol, $1)`, prefix, series.MaxPoints)
	require.NoError(t, err)
	var k series.Key
	var newest []byte
	var want []string
	_, err = pgx.ForEachRow(rows, []any{&k.Symbol, &k.Provider, &newest, &want}, func() error {
		if newest == nil && want == nil {
			return nil // the row was inserted, but the first point never came
		}
		stored, err := series.Decode(newest)
		require.NoError(t, err)
		var got []string
		for _, p := range stored.Points {
			got = append(got, fmt.Sprint(p.At, " ", p.Price))
		}
		require.Equal(t, want, got, "%v", k)
		return nil
	})
	require.NoError(t, err)
}

// Events returns a random set that is full of edge cases: few instants that are close together, some beyond the largest window,
// several events for one point at equal and at different prices, one response twice, corrections, wide and narrow prices.
func Events(t *testing.T, rng *rand.Rand, prefix string) []priceevent.Observation {
	t.Helper()
	base := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		ids[i] = uuid.UUID{0: byte(rng.IntN(256)), 6: 0x70, 8: 0x80, 15: byte(i)} //nolint:gosec // i is below 6
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
			o.Price = Prices(t, "99999999999999999999.999999999999999999")[0]
		}
		out[i] = o
	}
	return out
}

// Instant is when the series of tests begin.
var Instant = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Observation returns an observation of the provider "p" with a response of its own.
func Observation(symbol string, at time.Time, p market.Price) priceevent.Observation {
	return priceevent.Observation{Symbol: market.Symbol(symbol), Provider: "p", Price: p, ObservedAt: at, RawResponseID: uuid.New()}
}

// Prices parses prices.
func Prices(t *testing.T, texts ...string) []market.Price {
	t.Helper()
	out := make([]market.Price, len(texts))
	for i, s := range texts {
		p, err := market.ParsePrice(s)
		require.NoError(t, err)
		out[i] = p
	}
	return out
}

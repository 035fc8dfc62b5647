//go:build integration

package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// stocks reads the real monthly closes that the fake exchange starts from.
func stocks(t *testing.T) []priceevent.Observation {
	t.Helper()
	f, err := os.Open("../../local/exchange/stocks.csv")
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var out []priceevent.Observation
	for i, row := range rows[1:] {
		at, err := time.Parse("Jan 2 2006", row[1])
		require.NoError(t, err)
		out = append(out, priceevent.Observation{
			Symbol: market.Symbol(row[0]), Provider: "history", Price: prices(t, row[2])[0], ObservedAt: at,
			RawResponseID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)),
		})
	}
	return out
}

// dump prints the tables without our own clock: what must be the same after any schedule.
func dump(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var out strings.Builder
	for _, q := range []string{
		"select (symbol, provider, observed_at, price, raw_response_id, correction)::text from price_points order by symbol, provider, observed_at",
		"select (symbol, provider, window_size, average, points_used, complete, as_of, oldest)::text from symbol_averages order by 1",
	} {
		rows, err := pool.Query(t.Context(), q)
		require.NoError(t, err)
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			out.WriteString(line + "\n")
		}
		require.NoError(t, rows.Err())
	}
	return out.String()
}

func TestRealClosesInAnyOrderLeaveExactMeans(t *testing.T) {
	t.Parallel()
	all := stocks(t)
	inOrder := &pgStore{pool: testenv.Postgres(t), windows: []int{5, 20, 50}}
	for _, o := range all {
		did, err := inOrder.apply(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, inserted, did)
	}

	shuffled := &pgStore{pool: testenv.Postgres(t), windows: []int{5, 20, 50}}
	rng := rand.New(rand.NewPCG(3, 4))
	twice := append([]priceevent.Observation{}, all...)
	for i, o := range all {
		if i%3 == 0 {
			twice = append(twice, o)
		}
	}
	rng.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	applyAll(t, shuffled, twice, 8)
	require.Equal(t, dump(t, inOrder.pool), dump(t, shuffled.pool))

	bySymbol := map[market.Symbol][]priceevent.Observation{}
	for _, o := range all {
		bySymbol[o.Symbol] = append(bySymbol[o.Symbol], o)
	}
	require.Len(t, bySymbol, 5)
	for symbol, points := range bySymbol {
		sort.Slice(points, func(i, j int) bool { return points[i].ObservedAt.After(points[j].ObservedAt) })
		got, err := inOrder.latestAverage(t.Context(), symbol, "history", 5)
		require.NoError(t, err)
		sum := new(big.Rat)
		for _, p := range points[:5] {
			sum.Add(sum, p.Price.Decimal().Rat())
		}
		require.Zero(t, sum.Quo(sum, big.NewRat(5, 1)).Cmp(got.mean.Decimal().Rat()), symbol)
		require.True(t, got.complete)
		require.Equal(t, points[0].ObservedAt, got.asOf.UTC())
		require.Equal(t, points[4].ObservedAt, got.oldest.UTC())
	}
}

func applyAll(t *testing.T, s *pgStore, all []priceevent.Observation, workers int) {
	t.Helper()
	queue := make(chan priceevent.Observation)
	errs := make(chan error, len(all))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for o := range queue {
				_, err := s.apply(context.Background(), o)
				errs <- err
			}
		})
	}
	for _, o := range all {
		queue <- o
	}
	close(queue)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

// Later points would heal a wrong average: only points next to each other in the stream, in flight at once, show
// whether transactions on one series serialise.
func TestAdjacentPointsOfOneSeriesSerialise(t *testing.T) {
	t.Parallel()
	s := &pgStore{pool: testenv.Postgres(t), windows: []int{5}}
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []priceevent.Observation
	for symbol := range 300 {
		for i, p := range prices(t, "1", "2", "6") {
			all = append(all, priceevent.Observation{
				Symbol: market.Symbol(fmt.Sprintf("S%d", symbol)), Provider: "p", Price: p,
				ObservedAt: at.Add(time.Duration(i) * time.Second), RawResponseID: uuid.New(),
			})
		}
	}
	applyAll(t, s, all, 12)
	var wrong int
	require.NoError(t, s.pool.QueryRow(t.Context(),
		"select count(*) from symbol_averages where average <> 3 or points_used <> 3").Scan(&wrong))
	require.Zero(t, wrong)
}

func TestGreatestRankWinsWhateverTheOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	low, high := uuid.MustParse("00000000-0000-4000-8000-000000000001"), uuid.MustParse("ff000000-0000-4000-8000-000000000001")
	p := prices(t, "1", "2")
	ascending := []priceevent.Observation{
		{RawResponseID: low, Price: p[0]},
		{RawResponseID: low, Price: p[1]},
		{RawResponseID: high, Price: p[0]},
		{RawResponseID: low, Price: p[0], Correction: 1},
	}
	s := &pgStore{pool: testenv.Postgres(t), windows: []int{5}}
	for i := range ascending {
		for j := range ascending {
			a, b := ascending[i], ascending[j]
			symbol := market.Symbol(fmt.Sprintf("S%d%d", i, j))
			for _, o := range []priceevent.Observation{a, b} {
				o.Symbol, o.Provider, o.ObservedAt = symbol, "p", at
				_, err := s.apply(t.Context(), o)
				require.NoError(t, err)
			}
			var correction int
			var id uuid.UUID
			var price market.Price
			require.NoError(t, s.pool.QueryRow(t.Context(),
				"select correction, raw_response_id, price from price_points where symbol = $1", symbol).Scan(&correction, &id, &price))
			want := ascending[max(i, j)]
			require.Equal(t, want.Correction, correction)
			require.Equal(t, want.RawResponseID, id)
			require.Equal(t, want.Price, price)
			got, err := s.latestAverage(t.Context(), symbol, "p", 5)
			require.NoError(t, err)
			require.Equal(t, want.Price, got.mean)
			require.False(t, got.complete)
		}
	}
}

func TestNoAverageBeforeTheFirstPoint(t *testing.T) {
	t.Parallel()
	s := &pgStore{pool: testenv.Postgres(t), windows: []int{5}}
	_, err := s.latestAverage(t.Context(), "AAPL", "yfinance", 5)
	require.Equal(t, "average_not_found", fault.CodeOf(err))
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

//go:build integration

package store

import (
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// stocks reads the real monthly closes that the fake exchange starts from.
func stocks(t *testing.T) []priceevent.Observation {
	t.Helper()
	f, err := os.Open("../../../../local/exchange/stocks.csv")
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var out []priceevent.Observation
	for i, row := range rows[1:] {
		at, err := time.Parse("Jan 2 2006", row[1])
		require.NoError(t, err)
		out = append(out, priceevent.Observation{
			Symbol: market.Symbol(row[0]), Provider: "history", Price: model.Prices(t, row[2])[0], ObservedAt: at,
			RawResponseID: uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i)),
		})
	}
	return out
}

func TestRealClosesInAnyOrderLeaveExactMeans(t *testing.T) {
	t.Parallel()
	all := stocks(t)
	inOrder := New(testenv.Postgres(t), []int{5, 20, 50})
	for _, o := range all {
		did, err := inOrder.Apply(t.Context(), []priceevent.Observation{o})
		require.NoError(t, err)
		require.Equal(t, Inserted, did[0].Outcome)
	}
	require.Equal(t, model.Tables(all, inOrder.windows), model.Dump(t, inOrder.pool, ""))

	rng := rand.New(rand.NewPCG(3, 4))
	twice := append([]priceevent.Observation{}, all...)
	for i, o := range all {
		if i%3 == 0 {
			twice = append(twice, o)
		}
	}
	rng.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	shuffled := New(testenv.Postgres(t), []int{5, 20, 50})
	for batch := range slices.Chunk(twice, 37) {
		_, err := shuffled.Apply(t.Context(), batch)
		require.NoError(t, err)
	}
	require.Equal(t, model.Dump(t, inOrder.pool, ""), model.Dump(t, shuffled.pool, ""))

	bySymbol := map[market.Symbol][]priceevent.Observation{}
	for _, o := range all {
		bySymbol[o.Symbol] = append(bySymbol[o.Symbol], o)
	}
	require.Len(t, bySymbol, 5)
	for symbol, points := range bySymbol {
		sort.Slice(points, func(i, j int) bool { return points[i].ObservedAt.After(points[j].ObservedAt) })
		got, err := NewReader(inOrder.pool).LatestAverage(t.Context(), series.Key{Symbol: string(symbol), Provider: "history"}, 5)
		require.NoError(t, err)
		sum := new(big.Rat)
		for _, p := range points[:5] {
			sum.Add(sum, p.Price.Decimal().Rat())
		}
		require.Zero(t, sum.Quo(sum, big.NewRat(5, 1)).Cmp(got.Mean.Decimal().Rat()), symbol)
		require.True(t, got.Complete())
		require.Equal(t, points[0].ObservedAt.UnixMicro(), got.AsOf)
		require.Equal(t, points[4].ObservedAt.UnixMicro(), got.Oldest)
	}
}

// A range begins with its first instant and ends before its last, in both directions.
func TestRangesAreHalfOpen(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5})
	for second := range int64(5) {
		_, err := s.Apply(t.Context(), []priceevent.Observation{observed(t, "S", second)})
		require.NoError(t, err)
	}
	reads := NewReader(s.pool)
	endless, err := reads.Points(t.Context(), key("S"), series.Range{From: math.MinInt64, To: math.MaxInt64}, 10)
	require.NoError(t, err)
	require.Len(t, endless, 5)
	for _, read := range []func(context.Context, series.Key, series.Range, int) ([]series.Point, error){reads.Points, reads.PointsBefore} {
		points, err := read(t.Context(), key("S"), series.Range{From: 1_000_000, To: 3_000_000}, 10)
		require.NoError(t, err)
		require.Len(t, points, 2)
		require.EqualValues(t, 1_000_000, points[0].At)
		require.EqualValues(t, 2_000_000, points[1].At)
	}
}

// A window that is not stored has the average that it would have if it were.
func TestComputedAveragesAreExact(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5, 50})
	all := stocks(t)
	_, err := s.Apply(t.Context(), all)
	require.NoError(t, err)
	reads, ibm := NewReader(s.pool), series.Key{Symbol: "IBM", Provider: "history"}
	for _, window := range s.windows {
		stored, err := reads.LatestAverage(t.Context(), ibm, window)
		require.NoError(t, err)
		computed, err := reads.ComputeAverage(t.Context(), ibm, window)
		require.NoError(t, err)
		require.Equal(t, stored, computed)
	}
	var points []priceevent.Observation
	for _, o := range all {
		if o.Symbol == "IBM" {
			points = append(points, o)
		}
	}
	require.Greater(t, len(points), 100)
	sort.Slice(points, func(i, j int) bool { return points[i].ObservedAt.After(points[j].ObservedAt) })
	for _, window := range []int{1, 100, 500} { // the last is more than there are
		used := points[:min(window, len(points))]
		got, err := reads.ComputeAverage(t.Context(), ibm, window)
		require.NoError(t, err)
		sum := new(big.Rat)
		for _, o := range used {
			sum.Add(sum, o.Price.Decimal().Rat())
		}
		mean := sum.Quo(sum, big.NewRat(int64(len(used)), 1))
		digits, exact := mean.FloatPrec()
		if !exact {
			digits = 2 + 12 // the prices have cents
		}
		want, _ := new(big.Rat).SetString(mean.FloatString(digits))
		require.Zero(t, want.Cmp(got.Mean.Decimal().Rat()), "%d: %s", window, got.Mean)
		require.Equal(t, []any{window, len(used)}, []any{got.Window, got.PointsUsed})
		require.Equal(t, used[0].ObservedAt.UnixMicro(), got.AsOf)
		require.Equal(t, used[len(used)-1].ObservedAt.UnixMicro(), got.Oldest)
	}
	_, err = reads.ComputeAverage(t.Context(), series.Key{Symbol: "NONE", Provider: "history"}, 100)
	require.Equal(t, fault.CodeAverageNotFound, fault.CodeOf(err))
}

func TestGreatestRankWinsWhateverTheOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	low, high := uuid.MustParse("00000000-0000-4000-8000-000000000001"), uuid.MustParse("ff000000-0000-4000-8000-000000000001")
	p := model.Prices(t, "1", "2")
	ascending := []priceevent.Observation{
		{RawResponseID: low, Price: p[0]},
		{RawResponseID: low, Price: p[1]},
		{RawResponseID: high, Price: p[0]},
		{RawResponseID: low, Price: p[0], Correction: 1},
	}
	s := New(testenv.Postgres(t), []int{5})
	for i := range ascending {
		for j := range ascending {
			a, b := ascending[i], ascending[j]
			symbol := market.Symbol(fmt.Sprintf("S%d%d", i, j))
			for _, o := range []priceevent.Observation{a, b} {
				o.Symbol, o.Provider, o.ObservedAt = symbol, "p", at
				_, err := s.Apply(t.Context(), []priceevent.Observation{o})
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
			got, err := NewReader(s.pool).LatestAverage(t.Context(), series.Key{Symbol: string(symbol), Provider: "p"}, 5)
			require.NoError(t, err)
			require.Equal(t, want.Price.String(), got.Mean.String())
			require.False(t, got.Complete())
		}
	}
}

func TestNoAverageBeforeTheFirstPoint(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5})
	_, err := NewReader(s.pool).LatestAverage(t.Context(), series.Key{Symbol: "AAPL", Provider: "yfinance"}, 5)
	require.Equal(t, "average_not_found", fault.CodeOf(err))
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

// An event that the database alone refuses must not take its neighbours along, nor be tried for ever.
func TestOneRefusedEventFailsAlone(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	_, err := pool.Exec(t.Context(), "alter table price_points add constraint refuses_seven check (price <> 7)")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "alter table price_series add constraint refuses_eight check (8 <> all (averages))")
	require.NoError(t, err)
	store := New(pool, []int{5})
	blocked := make(chan struct{})
	a := NewBatcher(gated{store, blocked}, func(int, time.Duration) {})
	defer a.Close()
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i, text := range []string{"1", "2", "3", "7", "4", "5", "8", "6", "9", "10"} {
		wg.Go(func() {
			_, errs[i] = a.Commit(t.Context(), model.Observation(fmt.Sprint("S", i), model.Instant, model.Prices(t, text)[0]))
		})
	}
	close(blocked)
	wg.Wait()
	for i, err := range errs {
		if i == 3 || i == 6 {
			require.Equal(t, fault.CodeStorageRefused, fault.CodeOf(err))
			require.True(t, fault.Permanent(err))
			continue
		}
		require.NoError(t, err, i)
	}
	var rows int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from symbol_averages").Scan(&rows))
	require.Equal(t, 8, rows)
}

// gated holds commits back until the gate opens, so that what is in flight meets in one batch.
type gated struct {
	applier
	gate chan struct{}
}

func (g gated) Apply(ctx context.Context, all []priceevent.Observation) ([]Effect, error) {
	<-g.gate
	return g.applier.Apply(ctx, all)
}

func TestDryRunOfTheStoreLeavesNothing(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{2, 5})
	p := model.Prices(t, "1", "2")
	did, averages, err := s.Rehearse(t.Context(), model.Observation("A", model.Instant, p[0]))
	require.NoError(t, err)
	require.Equal(t, Effect{Outcome: Inserted}, did)
	require.Len(t, averages, 2)
	require.Empty(t, model.Dump(t, s.pool, ""))
	var rows int
	require.NoError(t, s.pool.QueryRow(t.Context(), "select count(*) from price_series").Scan(&rows))
	require.Zero(t, rows)

	kept := model.Observation("A", model.Instant, p[0])
	_, err = s.Apply(t.Context(), []priceevent.Observation{kept})
	require.NoError(t, err)
	before := model.Dump(t, s.pool, "")
	did, averages, err = s.Rehearse(t.Context(), model.Observation("A", model.Instant.Add(-time.Second), p[1]))
	require.NoError(t, err)
	require.Equal(t, Effect{Outcome: Inserted, Late: true}, did)
	require.Equal(t, "1.5", averages[0].Mean.String())
	did, averages, err = s.Rehearse(t.Context(), kept)
	require.NoError(t, err)
	require.Equal(t, Effect{Outcome: Duplicate}, did)
	require.Empty(t, averages)
	require.Equal(t, before, model.Dump(t, s.pool, ""))
}

// Rows that somebody removed, and newest points that nobody knows, are made anew from the points.
func TestSeriesRowsHealFromThePoints(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), modelWindows)
	var all []priceevent.Observation
	for i := range 60 {
		all = append(all, model.Observation("A", model.Instant.Add(time.Duration(i)*time.Second), model.Prices(t, fmt.Sprint(i+1))[0]))
	}
	for i, damage := range []string{
		"update price_series set newest = null", "delete from price_series", `update price_series set newest = '\xff00'`, "update price_series set windows = null, averages = null, oldest = null",
	} {
		_, err := s.Apply(t.Context(), all[i*12:i*12+12])
		require.NoError(t, err)
		_, err = s.pool.Exec(t.Context(), damage)
		require.NoError(t, err)
	}
	_, err := s.Apply(t.Context(), all[48:])
	require.NoError(t, err)
	require.Equal(t, model.Tables(all, s.windows), model.Dump(t, s.pool, ""))
}

// A series whose hash is that of a known one is taken for known, and has no row yet: its batch makes it.
func TestASeriesThatIsTakenForAnotherGetsItsRow(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), modelWindows)
	s.known.remember([]series.Key{{Symbol: "A", Provider: "p"}})
	var all []priceevent.Observation
	for i, symbol := range []string{"A", "B", "A"} {
		all = append(all, model.Observation(symbol, model.Instant.Add(time.Duration(i)*time.Second), model.Prices(t, "5")[0]))
		all[i].Provider = "p"
	}
	_, err := s.Apply(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, model.Tables(all, s.windows), model.Dump(t, s.pool, ""))
}

func TestKnownSeriesAreSmall(t *testing.T) { //nolint:paralleltest // it measures the heap
	before := heapBytes()
	var n knownSeries
	for i := range maxKnown {
		n.remember([]series.Key{{Symbol: fmt.Sprint("SYMBOL", i), Provider: "yfinance"}})
	}
	require.Less(t, heapBytes()-before, int64(4<<20))
	require.Empty(t, n.missing([]series.Key{{Symbol: "SYMBOL0", Provider: "yfinance"}, {Symbol: fmt.Sprint("SYMBOL", maxKnown-1), Provider: "yfinance"}}))
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestRebuildFollowsThePoints(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), modelWindows)
	all := stocks(t)
	_, err := s.Apply(t.Context(), all)
	require.NoError(t, err)
	want := model.Dump(t, s.pool, "")
	for _, damage := range []string{
		"update price_series set averages = array[1, 1, 1, 1], points = 1", "truncate price_series", "update price_series set newest = '\\x01'",
		"update price_series set windows = windows || 7, averages = averages || 1, oldest = oldest || now()",
	} {
		_, err := s.pool.Exec(t.Context(), damage)
		require.NoError(t, err)
		_, err = s.Rebuild(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, model.Dump(t, s.pool, ""), damage)
	}
	_, err = s.pool.Exec(t.Context(), "delete from price_points where symbol = 'AAPL'")
	require.NoError(t, err)
	n, err := s.Rebuild(t.Context())
	require.NoError(t, err, "a series that has lost its points")
	require.Equal(t, 5, n)
	all = slices.DeleteFunc(all, func(o priceevent.Observation) bool { return o.Symbol == "AAPL" })
	require.Equal(t, model.Tables(all, s.windows), model.Dump(t, s.pool, ""), "and no other")
	n, err = New(testenv.Postgres(t), []int{5}).Rebuild(t.Context())
	require.NoError(t, err, "of nothing")
	require.Zero(t, n)
}

// A rebuild that fails says so, and does not count the series as done.
func TestARebuildThatFails(t *testing.T) {
	t.Parallel()
	s := New(testenv.Postgres(t), []int{5})
	exec := func(sql string) {
		t.Helper()
		_, err := s.pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	fails := func(text string) {
		t.Helper()
		n, err := s.Rebuild(t.Context())
		require.ErrorContains(t, err, text)
		require.Zero(t, n)
	}
	_, err := s.Apply(t.Context(), []priceevent.Observation{observed(t, "A", 1)})
	require.NoError(t, err)
	exec("alter table price_series add constraint refuses_five check (averages is null or 5 <> all (averages)) not valid")
	fails("rebuild A from p: ")
	exec("delete from price_series; alter table price_series add constraint refuses_a check (symbol <> 'A')")
	fails("insert series: ")
}

// Postgres answers the commit of a failed transaction with ROLLBACK, and no error. Such a batch is not committed.
func TestARollbackIsNoCommit(t *testing.T) {
	t.Parallel()
	conn, err := testenv.Postgres(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "begin")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	require.Error(t, tx{conn.Conn()}.commit(t.Context(), nil))
}

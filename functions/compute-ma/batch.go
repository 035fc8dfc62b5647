package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/priceevent"
)

// seriesKey names a series.
type seriesKey struct{ symbol, provider string }

func compareKeys(a, b seriesKey) int {
	return cmp.Or(strings.Compare(a.symbol, b.symbol), strings.Compare(a.provider, b.provider)) // bytes, as the columns' collation "C"
}

// pointKey names a point.
type pointKey struct {
	seriesKey
	at int64 // microseconds since 1970
}

func keyOf(o priceevent.Observation) pointKey {
	return pointKey{seriesKey{string(o.Symbol), o.Provider}, o.ObservedAt.UnixMicro()}
}

// batch is one transaction's work: distinct points, sorted, and their distinct series, sorted.
type batch struct {
	all     []priceevent.Observation
	winners []int // index into all of each point's observation of the greatest rank, sorted by point
	series  []seriesKey
	effects []effect // of each observation
	changed map[pointKey]bool
	rebuild bool // whatever the series' rows say, the points are read

	averages []seriesAverages // to write
}

// seriesAverages are the averages of one series.
type seriesAverages struct {
	seriesKey
	newest series.Newest
	all    []series.Average
}

func newBatch(all []priceevent.Observation) *batch {
	b := &batch{all: all, winners: make([]int, len(all))}
	keys := make([]pointKey, len(all))
	for i, o := range all {
		keys[i], b.winners[i] = keyOf(o), i
	}
	// Of one point the greatest rank first, so that compacting keeps it.
	slices.SortFunc(b.winners, func(i, j int) int {
		if c := cmp.Or(compareKeys(keys[i].seriesKey, keys[j].seriesKey), cmp.Compare(keys[i].at, keys[j].at)); c != 0 {
			return c
		}
		return all[j].CompareRank(all[i])
	})
	b.winners = slices.CompactFunc(b.winners, func(i, j int) bool { return keys[i] == keys[j] })
	for _, i := range b.winners {
		if n := len(b.series); n == 0 || b.series[n-1] != keys[i].seriesKey {
			b.series = append(b.series, keys[i].seriesKey)
		}
	}
	return b
}

// run makes the transaction in two round trips, one more for each series whose newest points are not known.
func (b *batch) run(ctx context.Context, conn *pgx.Conn, windows []int, end string) error {
	b.effects = make([]effect, len(b.all))
	for i := range b.effects {
		b.effects[i].outcome = duplicate
	}
	newest, err := b.writePoints(ctx, conn, end == "commit")
	if err != nil {
		return err
	}
	if err := b.merge(ctx, conn, newest, windows); err != nil {
		return err
	}
	var second pgx.Batch
	b.queueAverages(&second)
	second.Queue(end)
	return finish(ctx, conn, &second, end)
}

// finish sends what remains of the transaction. A commit of a failed transaction is answered as a rollback, without an error.
func finish(ctx context.Context, conn *pgx.Conn, last *pgx.Batch, end string) error {
	results := conn.SendBatch(ctx, last)
	var err error
	for range last.Len() {
		tag, execErr := results.Exec()
		if err = execErr; err != nil {
			break
		}
		if tag.String() == "ROLLBACK" && end == "commit" {
			err = errors.New("the transaction was rolled back")
		}
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write averages: %w", err)
	}
	return nil
}

const (
	upsertPoints = `
		insert into price_points as p (symbol, provider, observed_at, price, raw_response_id, correction)
		select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]::numeric[], $5::uuid[], $6::integer[])
		on conflict on constraint price_points_pk do update
		set price = excluded.price, raw_response_id = excluded.raw_response_id, correction = excluded.correction,
		    received_at = now()
		where (excluded.correction, excluded.raw_response_id, excluded.price) > (p.correction, p.raw_response_id, p.price)
		returning symbol, provider, observed_at, xmax = 0`
	// A statement of its own: it must see what other transactions committed while this one waited for the lock.
	lockSeries = `
		select k.n, s.newest
		from unnest($1::text[], $2::text[]) with ordinality as k (symbol, provider, n)
		join price_series s on s.symbol = k.symbol and s.provider = k.provider
		order by k.n
		for update of s`
)

// errSeriesGone means that a series' row, made before, is not there: somebody emptied the table.
var errSeriesGone = errors.New("a series' row is gone")

// writePoints begins the transaction, writes the points and locks their series. It notes each point's effect and gives
// the newest points of each series as they are stored, nil where they are not known.
func (b *batch) writePoints(ctx context.Context, conn *pgx.Conn, rowsMustExist bool) (newest [][]byte, err error) {
	var first pgx.Batch
	first.Queue("begin")
	first.Queue(guard)
	first.Queue(upsertPoints, b.pointColumns()...)
	symbols, providers := b.seriesColumns()
	first.Queue(lockSeries, symbols, providers)
	results := conn.SendBatch(ctx, &first)
	defer func() {
		if closeErr := results.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write points: %w", closeErr)
		}
	}()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
	}
	if err := b.readEffects(results); err != nil {
		return nil, fmt.Errorf("write points: %w", err)
	}
	newest = make([][]byte, len(b.series))
	rows, err := results.Query()
	if err != nil {
		return nil, fmt.Errorf("lock series: %w", err)
	}
	locked := 0
	var n int64
	var value []byte
	_, err = pgx.ForEachRow(rows, []any{&n, &value}, func() error {
		newest[n-1], value = value, nil
		locked++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock series: %w", err)
	}
	if locked < len(b.series) && rowsMustExist {
		return nil, errSeriesGone
	}
	return newest, nil
}

func (b *batch) pointColumns() []any {
	n := len(b.winners)
	symbols, providers, prices := make([]string, n), make([]string, n), make([]string, n)
	times, corrections := make([]time.Time, n), make([]int32, n)
	ids := make(pgtype.FlatArray[pgtype.UUID], n) // []uuid.UUID would be encoded by reflection
	for i, w := range b.winners {
		o := b.all[w]
		symbols[i], providers[i], prices[i] = string(o.Symbol), o.Provider, o.Price.String()
		times[i], corrections[i] = o.ObservedAt, int32(o.Correction) //nolint:gosec // checked when decoded
		ids[i] = pgtype.UUID{Bytes: o.RawResponseID, Valid: true}
	}
	return []any{symbols, providers, times, prices, ids, corrections}
}

func (b *batch) seriesColumns() (symbols, providers []string) {
	symbols, providers = make([]string, len(b.series)), make([]string, len(b.series))
	for i, k := range b.series {
		symbols[i], providers[i] = k.symbol, k.provider
	}
	return symbols, providers
}

// readEffects notes which points changed: rows come back for those alone.
func (b *batch) readEffects(results pgx.BatchResults) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	var k pointKey
	var at time.Time
	var isNew bool
	outcomes := make(map[pointKey]string, len(b.winners))
	if _, err := pgx.ForEachRow(rows, []any{&k.symbol, &k.provider, &at, &isNew}, func() error {
		k.at = at.UnixMicro()
		outcomes[k] = corrected
		if isNew {
			outcomes[k] = inserted
		}
		return nil
	}); err != nil {
		return err
	}
	b.changed = make(map[pointKey]bool, len(outcomes))
	for _, w := range b.winners {
		k := keyOf(b.all[w])
		if outcome, ok := outcomes[k]; ok {
			b.effects[w].outcome, b.changed[k] = outcome, true
		}
	}
	return nil
}

// updateSeries writes the newest points of series and the averages that follow from them. Arrays of arrays cannot be unnested row
// by row, so those of a series come as text.
const updateSeries = `
	update price_series s
	set newest = k.newest, windows = $1, averages = k.averages::numeric[], oldest = k.oldest::timestamptz[],
	    points = k.points, as_of = k.as_of, updated_at = now()
	from unnest($2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::integer[], $8::timestamptz[])
		as k (symbol, provider, newest, averages, oldest, points, as_of)
	where s.symbol = k.symbol and s.provider = k.provider`

// merge puts the points that changed into the newest points of their series. A series whose newest points stay as they
// are is not written.
func (b *batch) merge(ctx context.Context, conn *pgx.Conn, stored [][]byte, windows []int) error {
	b.averages = b.averages[:0]
	next := 0
	for i, k := range b.series {
		from := next
		for next < len(b.winners) && keyOf(b.all[b.winners[next]]).seriesKey == k {
			next++
		}
		newest, changed, err := b.mergeSeries(ctx, conn, k, stored[i], b.winners[from:next])
		if err != nil {
			return err
		}
		if changed {
			b.averages = append(b.averages, seriesAverages{k, newest, newest.Averages(windows)})
		}
	}
	return nil
}

func (b *batch) mergeSeries(ctx context.Context, conn *pgx.Conn, k seriesKey, stored []byte, winners []int) (series.Newest, bool, error) {
	newest, err := series.Decode(stored)
	rebuilt := err != nil || b.rebuild // null, or of another version
	if rebuilt {
		// Under the lock: a statement of its own sees all that is committed, and our own points.
		if _, err = conn.Exec(ctx, byIndex); err != nil {
			return newest, false, fmt.Errorf("read points: %w", err)
		}
		if newest, err = readNewest(ctx, conn, k); err != nil {
			return newest, false, err
		}
	}
	changed := rebuilt
	for _, w := range winners {
		o := b.all[w]
		if !b.changed[keyOf(o)] {
			continue
		}
		at := o.ObservedAt.UnixMicro()
		b.effects[w].late = b.effects[w].outcome == inserted && len(newest.Points) > 0 && at < newest.Points[0].At
		if newest.Put(series.Point{At: at, Price: series.NewValue(o.Price.Decimal())}) {
			changed = true
		}
	}
	return newest, changed, nil
}

// queueAverages queues the series' rows, as columns.
func (b *batch) queueAverages(queue *pgx.Batch) {
	n := len(b.averages)
	if n == 0 {
		return
	}
	symbols, providers, newest := make([]string, n), make([]string, n), make([][]byte, n)
	means, oldest := make([]string, n), make([]string, n)
	points, asOf := make([]int32, n), make([]time.Time, n)
	windows := make([]int32, len(b.averages[0].all)) // the same of every series
	for i, a := range b.averages[0].all {
		windows[i] = int32(a.Window) //nolint:gosec // at most 50
	}
	var text []byte
	for i, s := range b.averages {
		symbols[i], providers[i], newest[i] = s.symbol, s.provider, s.newest.Append(nil)
		points[i], asOf[i] = int32(len(s.newest.Points)), time.UnixMicro(s.newest.Points[0].At) //nolint:gosec // at most 50
		text = appendArray(text[:0], s.all, func(b []byte, a series.Average) []byte { return append(b, a.Mean.String()...) })
		means[i] = string(text)
		text = appendArray(text[:0], s.all, func(b []byte, a series.Average) []byte {
			return time.UnixMicro(a.Oldest).UTC().AppendFormat(b, time.RFC3339Nano)
		})
		oldest[i] = string(text)
	}
	queue.Queue(updateSeries, windows, symbols, providers, newest, means, oldest, points, asOf)
}

// appendArray writes averages as an array in Postgres' text form; no element needs quotes.
func appendArray(b []byte, all []series.Average, element func([]byte, series.Average) []byte) []byte {
	b = append(b, '{')
	for i, a := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(b, a)
	}
	return append(b, '}')
}

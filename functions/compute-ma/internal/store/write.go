// Package store keeps price points in Postgres, and the moving averages that follow from them.
//
// An event passes three layers. [Batcher] (batcher.go) gathers the events that are in flight at the same time. arrange and fold
// (fold.go) decide what a batch does to its series; they are pure. [Store] (write.go) turns that into one transaction. Replays of
// the same steps without a batch are [Store.Rehearse] and [Store.Rebuild]. Queries are in read.go, on connections of their own.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
)

// Store writes price_points and price_series; symbol_averages is a view of the latter. Safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	windows []int
	known   knownSeries
	held    heldSeries
}

// New returns a Store that computes averages of these windows, in points, each at most [series.MaxPoints].
func New(pool *pgxpool.Pool, windows []int) *Store { return &Store{pool: pool, windows: windows} }

// Apply writes observations and the averages of their series in one READ COMMITTED transaction, and returns the effect of
// each. Its statements, all in sorted order: upsert the points; lock the row of each series, which holds its newest points; update
// these rows. The lock makes transactions on one series run one after the other, and each sees what the one before committed, so
// the last writer writes the averages of all points. The idempotency key is (symbol, provider, observed_at) with the rank: of
// several observations of one point, the one with the greatest rank counts. Serialization failures and deadlocks are retried here.
// Errors are pgx's own; none of the observations is committed then.
//
// A series whose row another transaction holds delays the batch once, by [lockWait], and does not fail the others: the
// observations of that series come back as Held.
func (s *Store) Apply(ctx context.Context, all []priceevent.Observation) ([]Effect, error) {
	effects, err := s.applyFree(ctx, all, s.held.now())
	if !postgres.IsLockTimeout(err) {
		return effects, err
	}
	held, err := s.findHeld(ctx, arrange(all).keys())
	if err != nil {
		return nil, err
	}
	return s.applyFree(ctx, all, s.held.add(held))
}

// applyFree applies the observations of the series that are not held.
func (s *Store) applyFree(ctx context.Context, all []priceevent.Observation, held map[series.Key]bool) ([]Effect, error) {
	if len(held) == 0 {
		return s.apply(ctx, all)
	}
	effects := make([]Effect, len(all))
	var free []priceevent.Observation
	var at []int // of each in all
	for i := range all {
		if held[keyOf(&all[i])] {
			effects[i].Outcome = Held
			continue
		}
		free, at = append(free, all[i]), append(at, i)
	}
	if len(free) == 0 {
		return effects, nil
	}
	applied, err := s.apply(ctx, free)
	if err != nil {
		return nil, err
	}
	for i, effect := range applied {
		effects[at[i]] = effect
	}
	return effects, nil
}

func (s *Store) apply(ctx context.Context, all []priceevent.Observation) (effects []Effect, err error) {
	w := arrange(all)
	err = postgres.Retry(ctx, func() error {
		effects, err = s.commit(ctx, w)
		if errors.Is(err, errSeriesGone) {
			s.known.forget(w.keys())
			effects, err = s.commit(ctx, w)
		}
		return err
	})
	return effects, err
}

// commit makes the transaction of a batch in two round trips, and one more for each series whose newest points are not known.
func (s *Store) commit(ctx context.Context, w work) (effects []Effect, err error) {
	if err := s.known.ensure(ctx, s.pool, w.keys()); err != nil {
		return nil, err
	}
	err = s.inTx(ctx, func(t tx) error {
		outcomes, stored, err := t.begin(ctx, w)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(stored, func(newest []byte) bool { return newest == nil }) {
			return errSeriesGone
		}
		states, err := t.states(ctx, w, stored)
		if err != nil {
			return err
		}
		var rows []row
		effects, rows = fold(w, outcomes, states, s.windows)
		return t.commit(ctx, rows)
	})
	return effects, err
}

// Rehearse does what Apply would do with one observation, and rolls it back. It returns the effect, and the averages that would
// be written, if any. Errors are those of Apply.
func (s *Store) Rehearse(ctx context.Context, o priceevent.Observation) (effect Effect, averages []series.Average, err error) {
	w := arrange([]priceevent.Observation{o})
	err = postgres.Retry(ctx, func() error {
		return s.inTx(ctx, func(t tx) error {
			outcomes, stored, err := t.begin(ctx, w)
			if err != nil {
				return err
			}
			states, err := t.states(ctx, w, stored)
			if err != nil {
				return err
			}
			effects, rows := fold(w, outcomes, states, s.windows)
			effect, averages = effects[0], nil
			if len(rows) > 0 {
				averages = rows[0].averages
			}
			return t.rollback(ctx)
		})
	})
	return effect, averages, err
}

// errSeriesGone means that the row of a series, which was there before, is not: somebody emptied the table.
var errSeriesGone = errors.New("the row of a series is gone")

// tx is one transaction. Its first statement goes with [tx.begin], its last with commit or rollback.
type tx struct{ conn *pgx.Conn }

// inTx runs f on a connection of its own. A transaction that f leaves open is rolled back.
func (s *Store) inTx(ctx context.Context, f func(tx) error) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		err := f(tx{c.Conn()})
		if err != nil && c.Conn().PgConn().TxStatus() != 'I' {
			_, _ = c.Exec(ctx, "rollback") // if that fails too, the pool drops the connection
		}
		return err
	})
}

const (
	// A correction is later than the transaction's now(), which a new point has: that tells them apart. The usual xmax = 0 cannot be read
	// of a partitioned table.
	upsertPoints = `
		insert into price_points as p (symbol, provider, observed_at, price, raw_response_id, correction)
		select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]::numeric[], $5::uuid[], $6::integer[])
		on conflict on constraint price_points_pk do update
		set price = excluded.price, raw_response_id = excluded.raw_response_id, correction = excluded.correction,
		    received_at = greatest(clock_timestamp(), now() + interval '1 microsecond')
		where (excluded.correction, excluded.raw_response_id, excluded.price) > (p.correction, p.raw_response_id, p.price)
		returning symbol, provider, observed_at, received_at = now()`
	// A statement of its own: it must see what other transactions committed while this one waited for the lock.
	lockSeries = `
		select k.n, s.newest
		from unnest($1::text[], $2::text[]) with ordinality as k (symbol, provider, n)
		join price_series s on s.symbol = k.symbol and s.provider = k.provider
		order by k.n
		for update of s`
)

// begin begins the transaction, writes the points and locks the rows of their series. It returns the outcome of each point, and the
// newest points that the row of each series holds, encoded: empty if they are not known, nil if the row does not exist.
func (t tx) begin(ctx context.Context, w work) (outcomes []Outcome, stored [][]byte, err error) {
	var first pgx.Batch
	first.Queue("begin")
	first.Queue(guard)
	first.Queue(upsertPoints, w.pointColumns()...)
	symbols, providers := columns(w.keys())
	first.Queue(lockSeries, symbols, providers)
	results := t.conn.SendBatch(ctx, &first)
	defer func() {
		if closeErr := results.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("lock series: %w", closeErr)
		}
	}()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return nil, nil, fmt.Errorf("begin: %w", err)
		}
	}
	if outcomes, err = readOutcomes(results, w); err != nil {
		return nil, nil, fmt.Errorf("write points: %w", err)
	}
	if stored, err = readStored(results, len(w.series)); err != nil {
		return nil, nil, fmt.Errorf("lock series: %w", err)
	}
	return outcomes, stored, nil
}

// pointColumns returns the parameters of upsertPoints.
func (w work) pointColumns() []any {
	n := len(w.points)
	symbols, providers, prices := make([]string, n), make([]string, n), make([]string, n)
	times, corrections := make([]time.Time, n), make([]int32, n)
	ids := make(pgtype.FlatArray[pgtype.UUID], n) // []uuid.UUID would be encoded by reflection
	for p, i := range w.points {
		o := &w.observations[i]
		symbols[p], providers[p], prices[p] = string(o.Symbol), o.Provider, o.Price.String()
		times[p], corrections[p] = o.ObservedAt, int32(o.Correction) //nolint:gosec // checked when decoded
		ids[p] = pgtype.UUID{Bytes: o.RawResponseID, Valid: true}
	}
	return []any{symbols, providers, times, prices, ids, corrections}
}

// keys returns the series of the batch, sorted.
func (w work) keys() []series.Key {
	keys := make([]series.Key, len(w.series))
	for i, segment := range w.series {
		keys[i] = segment.Key
	}
	return keys
}

func columns(keys []series.Key) (symbols, providers []string) {
	symbols, providers = make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		symbols[i], providers[i] = k.Symbol, k.Provider
	}
	return symbols, providers
}

// readOutcomes reads what the upsert did: it returns a row for each point that changed. They come in the order in which the points
// were given, so each is looked for from where the last one was found.
func readOutcomes(results pgx.BatchResults, w work) ([]Outcome, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, len(w.points))
	for p := range outcomes {
		outcomes[p] = Duplicate
	}
	var symbol, provider pgtype.DriverBytes // no copies
	var at time.Time
	var isNew bool
	next := 0
	_, err = pgx.ForEachRow(rows, []any{&symbol, &provider, &at, &isNew}, func() error {
		for range w.points {
			p := next
			next = (next + 1) % len(w.points)
			o := &w.observations[w.points[p]]
			if o.ObservedAt.UnixMicro() != at.UnixMicro() || string(o.Symbol) != string(symbol) || o.Provider != string(provider) {
				continue
			}
			outcomes[p] = Corrected
			if isNew {
				outcomes[p] = Inserted
			}
			return nil
		}
		return fmt.Errorf("a point that was not sent: %s %s %s", symbol, provider, at)
	})
	return outcomes, err
}

// readStored reads the rows that lockSeries found, of n asked for.
func readStored(results pgx.BatchResults, n int) ([][]byte, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	stored := make([][]byte, n)
	var position int64 // from 1
	var newest []byte
	_, err = pgx.ForEachRow(rows, []any{&position, &newest}, func() error {
		if newest == nil {
			newest = []byte{}
		}
		stored[position-1], newest = newest, nil
		return nil
	})
	return stored, err
}

// states decodes what is stored of each series. Where that is nothing, or of another version, the points are read instead.
func (t tx) states(ctx context.Context, w work, stored [][]byte) ([]state, error) {
	states := make([]state, len(w.series))
	for i, segment := range w.series {
		newest, err := series.Decode(stored[i])
		if err == nil {
			states[i].newest = newest
			continue
		}
		// A statement of its own under the lock sees all that is committed, and the points of this batch.
		if _, err := t.conn.Exec(ctx, postgres.ByIndex(ReadTimeout)); err != nil {
			return nil, fmt.Errorf("read points: %w", err)
		}
		if newest, err = readNewest(ctx, t.conn, segment.Key); err != nil {
			return nil, err
		}
		states[i] = state{newest: newest, stale: true}
	}
	return states, nil
}

// updateSeries writes the rows of series. Arrays of arrays cannot be unnested row by row, so the arrays of a series come as text.
const updateSeries = `
	update price_series s
	set newest = k.newest, windows = $1, averages = k.averages::numeric[], oldest = k.oldest::timestamptz[],
	    points = k.points, as_of = k.as_of, updated_at = now()
	from unnest($2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::integer[], $8::timestamptz[])
		as k (symbol, provider, newest, averages, oldest, points, as_of)
	where s.symbol = k.symbol and s.provider = k.provider`

// commit updates rows and commits.
func (t tx) commit(ctx context.Context, rows []row) error {
	var last pgx.Batch
	if len(rows) > 0 {
		last.Queue(updateSeries, rowColumns(rows)...)
	}
	last.Queue("commit")
	results := t.conn.SendBatch(ctx, &last)
	var tag pgconn.CommandTag
	var err error
	for range last.Len() {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err == nil && tag.String() != "COMMIT" { // the commit of a failed transaction is answered as a rollback, without an error
		err = errors.New("the transaction was rolled back")
	}
	if err != nil {
		return fmt.Errorf("write averages: %w", err)
	}
	return nil
}

func (t tx) rollback(ctx context.Context) error {
	if _, err := t.conn.Exec(ctx, "rollback"); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// rowColumns returns the parameters of updateSeries.
func rowColumns(rows []row) []any {
	n := len(rows)
	symbols, providers, newest := make([]string, n), make([]string, n), make([][]byte, n)
	means, oldest := make([]string, n), make([]string, n)
	points, asOf := make([]int32, n), make([]time.Time, n)
	windows := make([]int32, len(rows[0].averages)) // the same for every series
	for i, a := range rows[0].averages {
		windows[i] = int32(a.Window) //nolint:gosec // at most 50
	}
	var text []byte
	for i, r := range rows {
		symbols[i], providers[i], newest[i] = r.Symbol, r.Provider, r.newest.Append(nil)
		points[i], asOf[i] = int32(len(r.newest.Points)), time.UnixMicro(r.newest.Points[0].At) //nolint:gosec // at most 50
		text = appendArray(text[:0], r.averages, func(b []byte, a series.Average) []byte { return append(b, a.Mean.String()...) })
		means[i] = string(text)
		text = appendArray(text[:0], r.averages, func(b []byte, a series.Average) []byte {
			return time.UnixMicro(a.Oldest).UTC().AppendFormat(b, time.RFC3339Nano)
		})
		oldest[i] = string(text)
	}
	return []any{windows, symbols, providers, newest, means, oldest, points, asOf}
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

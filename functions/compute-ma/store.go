package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
)

// pgStore owns price_points and price_series, of which symbol_averages is a view.
type pgStore struct {
	pool    *pgxpool.Pool
	windows []int
	known   knownSeries
	held    heldSeries
}

// effect is what an event did to its point.
type effect struct {
	outcome string // inserted, corrected or duplicate
	late    bool   // it is older than the newest point that its series had
	held    error  // nothing happened: somebody holds the series, see [heldSeries]
}

const (
	inserted  = "inserted"  // a new point
	corrected = "corrected" // replaced the point's price by one of greater rank
	duplicate = "duplicate" // the point already has this rank or a greater one
)

// apply writes observations and the averages of their series in one READ COMMITTED transaction and gives the effect of
// each. Statements, in this order: the points; the lock on each series' row, which has its newest points; the rows, with the
// averages that follow; all in sorted order. Under the lock the newest points hold what every committed
// transaction merged into them, so the last writer always writes the right averages. Of several observations of one
// point the one of the greatest rank counts. Idempotency key: (symbol, provider, observed_at) with the rank.
// Serialization failures and deadlocks are retried inside. Errors are pgx's own: the caller classifies.
//
// A series whose row somebody holds costs its neighbours one wait for the lock and fails none of them: its own
// observations have held set.
func (s *pgStore) apply(ctx context.Context, all []priceevent.Observation) ([]effect, error) {
	if effects, err := s.applyFree(ctx, all, s.held.now()); !postgres.IsLockTimeout(err) {
		return effects, err
	}
	held, err := s.findHeld(ctx, newBatch(all).series)
	if err != nil {
		return nil, err
	}
	return s.applyFree(ctx, all, s.held.add(held))
}

// applyFree applies the observations of series that are not held.
func (s *pgStore) applyFree(ctx context.Context, all []priceevent.Observation, held map[seriesKey]bool) ([]effect, error) {
	effects := make([]effect, len(all))
	var free []priceevent.Observation
	var at []int // of each in all
	for i, o := range all {
		if held[keyOf(o).seriesKey] {
			effects[i].held = errHeld
			continue
		}
		free, at = append(free, o), append(at, i)
	}
	if len(free) == 0 {
		return effects, nil
	}
	b := newBatch(free)
	err := postgres.Retry(ctx, func() error {
		err := s.commit(ctx, b)
		if errors.Is(err, errSeriesGone) {
			s.known.forget(b.series)
			err = s.commit(ctx, b)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, did := range b.effects {
		effects[at[i]] = did
	}
	return effects, nil
}

func (s *pgStore) commit(ctx context.Context, b *batch) error {
	if err := s.known.ensure(ctx, s.pool, b.series); err != nil {
		return err
	}
	return s.run(ctx, b, "commit")
}

// dryRun is apply, rolled back; it gives the averages that would be written, too.
func (s *pgStore) dryRun(ctx context.Context, o priceevent.Observation) (effect, []series.Average, error) {
	b := newBatch([]priceevent.Observation{o})
	if err := postgres.Retry(ctx, func() error { return s.run(ctx, b, "rollback") }); err != nil {
		return effect{}, nil, err
	}
	if len(b.averages) == 0 {
		return b.effects[0], nil, nil
	}
	return b.effects[0], b.averages[0].all, nil
}

func (s *pgStore) run(ctx context.Context, b *batch, end string) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		err := b.run(ctx, c.Conn(), s.windows, end)
		if err != nil && c.Conn().PgConn().TxStatus() != 'I' {
			_, _ = c.Exec(ctx, "rollback") // if that fails too, the pool drops the connection
		}
		return err
	})
}

// maxKnown bounds the memory of [knownSeries]; above it, all are forgotten and made sure of again.
const maxKnown = 100_000

// knownSeries remembers which series have their row, so that it is made once and not with every event. Rows are made
// in a transaction of their own, before any lock is held: in whatever order series are born, locks are taken sorted.
//
// It keeps hashes, because the names of 100,000 series would be most of what the process holds. A series that is taken for
// another has no row to lock, which its batch notices: see [errSeriesGone].
type knownSeries struct {
	mu   sync.Mutex
	rows map[uint64]struct{}
}

var seriesSeed = maphash.MakeSeed()

func (k seriesKey) hash() uint64 { return maphash.Comparable(seriesSeed, k) }

func (n *knownSeries) missing(all []seriesKey) (out []seriesKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range all {
		if _, known := n.rows[k.hash()]; !known {
			out = append(out, k)
		}
	}
	return out
}

// ensure makes the rows that are not known to exist.
func (n *knownSeries) ensure(ctx context.Context, pool *pgxpool.Pool, all []seriesKey) error {
	missing := n.missing(all)
	if len(missing) == 0 {
		return nil
	}
	symbols, providers := (&batch{series: missing}).seriesColumns()
	if _, err := pool.Exec(ctx, `
		insert into price_series (symbol, provider)
		select * from unnest($1::text[], $2::text[])
		on conflict on constraint price_series_pk do nothing`, symbols, providers); err != nil {
		return fmt.Errorf("make series: %w", err)
	}
	n.remember(missing)
	return nil
}

func (n *knownSeries) remember(all []seriesKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rows == nil || len(n.rows) > maxKnown {
		n.rows = map[uint64]struct{}{}
	}
	for _, k := range all {
		n.rows[k.hash()] = struct{}{}
	}
}

func (n *knownSeries) forget(all []seriesKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range all {
		delete(n.rows, k.hash())
	}
}

package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/compute-ma/internal/series"
)

// maxKnown bounds the memory of [knownSeries]: beyond it all are forgotten, and their rows ensured again.
const maxKnown = 100_000

// knownSeries remembers which series have their row, so that it is inserted once and not with every event. Rows are inserted in a
// transaction of their own, before any lock is held, so that locks are taken in sorted order however series come into being.
//
// It keeps hashes, because the names of 100,000 series would be most of what the process holds. A series with the hash of another
// has no row to lock, which its batch notices: see [errSeriesGone].
type knownSeries struct {
	mu   sync.Mutex
	rows map[uint64]struct{}
}

var seriesSeed = maphash.MakeSeed()

func hash(k series.Key) uint64 { return maphash.Comparable(seriesSeed, k) }

func (n *knownSeries) missing(all []series.Key) (out []series.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range all {
		if _, known := n.rows[hash(k)]; !known {
			out = append(out, k)
		}
	}
	return out
}

// ensure inserts the rows that are not known to exist.
func (n *knownSeries) ensure(ctx context.Context, pool *pgxpool.Pool, all []series.Key) error {
	missing := n.missing(all)
	if len(missing) == 0 {
		return nil
	}
	symbols, providers := columns(missing)
	if _, err := pool.Exec(ctx, `
		insert into price_series (symbol, provider)
		select * from unnest($1::text[], $2::text[])
		on conflict on constraint price_series_pk do nothing`, symbols, providers); err != nil {
		return fmt.Errorf("insert series: %w", err)
	}
	n.remember(missing)
	return nil
}

func (n *knownSeries) remember(all []series.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rows == nil || len(n.rows) > maxKnown {
		n.rows = map[uint64]struct{}{}
	}
	for _, k := range all {
		n.rows[hash(k)] = struct{}{}
	}
}

func (n *knownSeries) forget(all []series.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range all {
		delete(n.rows, hash(k))
	}
}

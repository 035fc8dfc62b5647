package store

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
)

// lockWait is how long a batch waits for the lock of a series. Working replicas hold it for milliseconds; a replica that was
// stopped inside a transaction, or an operator's session, can hold it for much longer.
const lockWait = time.Second

// holdMemory is how long batches leave out a series that was found held.
const holdMemory = 2 * time.Second

// guard goes first in each transaction of a batch. A batch touches few of the table's series, so they are found by the index.
// Left alone, the planner reads the whole table while it is small, or was small when it was last analysed.
var guard = postgres.Guard(lockWait) +
	", set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"

// heldSeries remembers the series whose rows other transactions held when a batch last gave up waiting for a lock. Without it,
// every batch with an event of such a series would delay all its other events again.
type heldSeries struct {
	mu    sync.Mutex
	until map[series.Key]time.Time
}

// now returns the series that batches leave out at this time.
func (h *heldSeries) now() map[series.Key]bool { return h.add(nil) }

// add remembers more series and returns all of them.
func (h *heldSeries) add(more []series.Key) map[series.Key]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(h.until, func(_ series.Key, until time.Time) bool { return until.Before(now) })
	if h.until == nil {
		h.until = map[series.Key]time.Time{}
	}
	for _, k := range more {
		h.until[k] = now.Add(holdMemory)
	}
	all := make(map[series.Key]bool, len(h.until))
	for k := range h.until {
		all[k] = true
	}
	return all
}

// freeSeries locks the rows that it can lock without waiting, and releases them at once: it is a transaction of its own.
const freeSeries = `
	select k.n
	from unnest($1::text[], $2::text[]) with ordinality as k (symbol, provider, n)
	join price_series s on s.symbol = k.symbol and s.provider = k.provider
	for update of s skip locked`

// findHeld returns the series whose rows are locked now.
func (s *Store) findHeld(ctx context.Context, all []series.Key) ([]series.Key, error) {
	symbols, providers := columns(all)
	rows, err := s.pool.Query(ctx, freeSeries, symbols, providers)
	if err != nil {
		return nil, fmt.Errorf("find held series: %w", err)
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("find held series: %w", err)
	}
	isFree := make([]bool, len(all))
	for _, n := range free {
		isFree[n-1] = true
	}
	var held []series.Key
	for i, k := range all {
		if !isFree[i] {
			held = append(held, k)
		}
	}
	return held, nil
}

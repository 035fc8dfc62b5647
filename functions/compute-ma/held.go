package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/shared/postgres"
)

// lockWait is how long a batch waits for the lock of a series. Copies at work hold one for milliseconds; one that was
// stopped inside a transaction, or an operator's session, for much longer.
const lockWait = time.Second

// holdMemory is how long a series that was found held is not waited for again.
const holdMemory = 2 * time.Second

var errHeld = errors.New("another transaction holds the series")

// guard begins each transaction of a batch. A batch has few of the table's series: they are found by the index, whatever the planner
// knows of the table, which it would else read as a whole while it is small, or was when it was last analysed.
var guard = postgres.Guard(lockWait) +
	", set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"

// heldSeries remembers which series' rows others held when a batch last gave up waiting for one. Without it each batch
// with an event of such a series would make all its neighbours wait again.
type heldSeries struct {
	mu    sync.Mutex
	until map[seriesKey]time.Time
}

// now gives those that are still not waited for.
func (h *heldSeries) now() map[seriesKey]bool { return h.add(nil) }

// add remembers more, and gives all.
func (h *heldSeries) add(more []seriesKey) map[seriesKey]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(h.until, func(_ seriesKey, until time.Time) bool { return until.Before(now) })
	if len(more) > 0 && h.until == nil {
		h.until = map[seriesKey]time.Time{}
	}
	for _, k := range more {
		h.until[k] = now.Add(holdMemory)
	}
	if len(h.until) == 0 {
		return nil
	}
	all := make(map[seriesKey]bool, len(h.until))
	for k := range h.until {
		all[k] = true
	}
	return all
}

// freeSeries locks what it can without waiting, and lets go at once.
const freeSeries = `
	select k.n
	from unnest($1::text[], $2::text[]) with ordinality as k (symbol, provider, n)
	join price_series s on s.symbol = k.symbol and s.provider = k.provider
	order by k.n
	for update of s skip locked`

// findHeld gives the series whose rows are locked now.
func (s *pgStore) findHeld(ctx context.Context, all []seriesKey) ([]seriesKey, error) {
	symbols, providers := (&batch{series: all}).seriesColumns()
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
	var held []seriesKey
	for i, k := range all {
		if !isFree[i] {
			held = append(held, k)
		}
	}
	return held, nil
}

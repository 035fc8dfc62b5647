package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// servedCondition says whether the last fetch of a series s serves all jobs that want it (w): it began after their periods had begun,
// it returned a quote that was planned less than a period before theirs and is fresh, or the provider did not know the symbol, and it is too
// early to ask again. A fetch from the future means that the clock was set back.
const servedCondition = `
	s.attempted_at <= now() and (s.attempted_at >= w.since or (s.price is not null and s.planned > w.fresh)
		or (s.code = 'symbol_not_found' and s.ask_at > w.since and s.attempted_at >= w.resumed))`

const (
	wantedSeries = `unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) as w (symbol, since, fresh, resumed)`
	insertSeries = `
		insert into polling_series (provider, symbol)
		select $1, symbol
		from unnest($2::text[]) as w (symbol)
		where not exists (select from polling_series s where s.provider = $1 and s.symbol = w.symbol)
		order by symbol
		on conflict do nothing`
	// FOR UPDATE reads the newest version of a row, so only one of two concurrent callers gets it. SKIP LOCKED makes the other see it as
	// taken.
	takeSeries = `
		with free as (
			select s.symbol
			from ` + wantedSeries + `
			join polling_series s on s.provider = $1 and s.symbol = w.symbol
			where (s.lease_expires_at is null or s.lease_expires_at <= now()) and (` + servedCondition + `) is not true
			for update of s skip locked)
		update polling_series s
		set lease_token = $6::uuid, lease_expires_at = now() + $7::interval
		from free
		where s.provider = $1 and s.symbol = free.symbol
		returning s.symbol, s.attempted_at, now()`
	readServed = `
		select s.symbol, s.price, s.observed_at, s.code, s.answered_by
		from ` + wantedSeries + `
		join polling_series s on s.provider = $1 and s.symbol = w.symbol
		where ` + servedCondition
)

// Acquire leases the wanted series to the holder of token. It returns the others, too: those that a fetch has served already, with its
// result, and those that somebody else is fetching. Of several concurrent callers one gets a series. One transaction.
func (s *Store) Acquire(ctx context.Context, token uuid.UUID, provider string, wants []*schedule.Want) (a schedule.Acquired, err error) {
	err = postgres.Retry(ctx, func() (err error) {
		a, err = s.tryAcquire(ctx, token, provider, wants)
		return err
	})
	return a, postgres.Classify(err)
}

func (s *Store) tryAcquire(ctx context.Context, token uuid.UUID, provider string, wants []*schedule.Want) (a schedule.Acquired, err error) {
	open := make(map[market.Symbol]*schedule.Want, len(wants))
	var symbols []string
	var since, fresh, resumed []time.Time
	for _, w := range wants {
		open[w.Symbol] = w
		symbols, since, fresh, resumed = append(symbols, string(w.Symbol)), append(since, w.Since), append(fresh, w.Fresh), append(resumed, w.Resumed)
	}
	var batch pgx.Batch
	batch.Queue(insertSeries, provider, symbols)
	batch.Queue(takeSeries, provider, symbols, since, fresh, resumed, token.String(), schedule.Lease).Query(func(rows pgx.Rows) error {
		var symbol market.Symbol
		var last *time.Time
		var now time.Time
		_, err := pgx.ForEachRow(rows, []any{&symbol, &last, &now}, func() error {
			w := open[symbol]
			delete(open, symbol)
			w.Began, w.Last = now, orZero(last)
			a.Owned = append(a.Owned, w)
			return nil
		})
		return err
	})
	batch.Queue(readServed, provider, symbols, since, fresh, resumed).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			r, err := scanResult(rows)
			if err != nil {
				return err
			}
			if w := open[r.Symbol]; w != nil {
				delete(open, r.Symbol)
				a.Served = append(a.Served, schedule.Finished{Want: w, Result: fetch.Result{Result: r, Asked: true}})
			}
		}
		return rows.Err()
	})
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return schedule.Acquired{}, fmt.Errorf("acquire series: %w", err)
	}
	for _, w := range wants {
		if open[w.Symbol] != nil {
			a.Busy = append(a.Busy, w)
		}
	}
	return a, nil
}

const (
	// A symbol that the provider does not know is asked for again after 1, 2, 4 … periods, but at least once a day. An outage in between
	// does not change that.
	writeFetched = `
		update polling_series s
		set attempted_at = f.began, planned = f.planned, price = f.price::numeric, observed_at = f.observed_at, code = f.code,
		    answered_by = f.provider, lease_token = null, lease_expires_at = null,
		    unknown = case when f.code is null then 0 when f.code = 'symbol_not_found' then s.unknown + 1 else s.unknown end,
		    ask_at = case when f.code = 'symbol_not_found'
		        then f.planned + least(f.period_s * 2 ^ least(s.unknown, 20), 86400) * interval '1 second' end
		from unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::timestamptz[], $8::text[], $9::text[], $10::double precision[])
			as f (symbol, began, planned, price, observed_at, code, provider, period_s)
		where s.provider = $1 and s.symbol = f.symbol and s.lease_token = $2::uuid`
	releaseSeries = `
		update polling_series
		set lease_token = null, lease_expires_at = null
		where provider = $1 and symbol = any($2::text[]) and lease_token = $3::uuid`
)

// queueFetched writes the results of series, and ends their leases.
func queueFetched(batch *pgx.Batch, token uuid.UUID, provider string, all []schedule.Finished) {
	all = slices.SortedFunc(slices.Values(all), func(a, b schedule.Finished) int { return compareSymbols(a.Want, b.Want) })
	var c resultColumns
	var began, planned []time.Time
	var periods []float64 // seconds
	for _, f := range all {
		began, planned, periods = append(began, f.Began), append(planned, f.Planned), append(periods, f.Period.Seconds())
		c.add(f.Result.Result)
	}
	batch.Queue(writeFetched, provider, token.String(), c.symbols, began, planned, c.prices, c.observed, c.codes, c.providers, periods)
}

// queueReleased ends leases of series that were not fetched.
func queueReleased(batch *pgx.Batch, token uuid.UUID, provider string, wants []*schedule.Want) {
	var symbols []string
	for _, w := range slices.SortedFunc(slices.Values(wants), compareSymbols) {
		symbols = append(symbols, string(w.Symbol))
	}
	batch.Queue(releaseSeries, provider, symbols, token.String())
}

// compareSymbols is the order in which rows of series are written, so that concurrent statements do not deadlock.
func compareSymbols(a, b *schedule.Want) int {
	return strings.Compare(string(a.Symbol), string(b.Symbol))
}

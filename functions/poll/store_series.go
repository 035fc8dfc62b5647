package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// Whether the last fetch of a series s serves all who want it (w): it began when their periods had begun, or it gave a quote
// that was planned less than a period before theirs and is fresh. A fetch from the future says that the clock was set back.
const servedCondition = `
	s.attempted_at <= now() and (s.attempted_at >= w.since or (s.price is not null and s.planned > w.fresh))`

const (
	wantedSeries = `unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) as w (symbol, since, fresh)`
	insertSeries = `
		insert into polling_series (provider, symbol)
		select $1, symbol
		from unnest($2::text[]) as w (symbol)
		where not exists (select from polling_series s where s.provider = $1 and s.symbol = w.symbol)
		order by symbol
		on conflict do nothing`
	// FOR UPDATE reads the newest version of a row, so of two at once one gets it. SKIP LOCKED: the other sees it as taken.
	takeSeries = `
		with free as (
			select s.symbol
			from ` + wantedSeries + `
			join polling_series s on s.provider = $1 and s.symbol = w.symbol
			where (s.lease_expires_at is null or s.lease_expires_at <= now()) and (` + servedCondition + `) is not true
			for update of s skip locked)
		update polling_series s
		set lease_token = $5::uuid, lease_expires_at = now() + $6::interval
		from free
		where s.provider = $1 and s.symbol = free.symbol
		returning s.symbol, s.attempted_at, now()`
	readServed = `
		select s.symbol, s.price, s.observed_at, s.code, s.answered_by
		from ` + wantedSeries + `
		join polling_series s on s.provider = $1 and s.symbol = w.symbol
		where ` + servedCondition
)

// acquire leases the wanted series to the holder of token, and gives the rest: those that a fetch has served already, with its
// result, and those that somebody else is fetching. Of several callers at once one gets a series. One transaction.
func (s *pgStore) acquire(ctx context.Context, token uuid.UUID, provider string, wants []*want) (a acquired, err error) {
	err = postgres.Retry(ctx, func() (err error) {
		a, err = s.tryAcquire(ctx, token, provider, wants)
		return err
	})
	return a, postgres.Classify(err)
}

// acquired sorts what was wanted.
type acquired struct {
	owned, busy []*want
	served      []servedWant
}

type servedWant struct {
	*want
	got result
}

func (s *pgStore) tryAcquire(ctx context.Context, token uuid.UUID, provider string, wants []*want) (a acquired, err error) {
	open := make(map[market.Symbol]*want, len(wants))
	symbols, since, fresh := make([]string, len(wants)), make([]time.Time, len(wants)), make([]time.Time, len(wants))
	for i, w := range wants {
		open[w.symbol] = w
		symbols[i], since[i], fresh[i] = string(w.symbol), w.since, w.fresh
	}
	var batch pgx.Batch
	batch.Queue(insertSeries, provider, symbols)
	batch.Queue(takeSeries, provider, symbols, since, fresh, token.String(), lease).Query(func(rows pgx.Rows) error {
		var symbol market.Symbol
		var last *time.Time
		var now time.Time
		_, err := pgx.ForEachRow(rows, []any{&symbol, &last, &now}, func() error {
			w := open[symbol]
			delete(open, symbol)
			w.began, w.last = now, time.Time{}
			if last != nil {
				w.last = *last
			}
			a.owned = append(a.owned, w)
			return nil
		})
		return err
	})
	batch.Queue(readServed, provider, symbols, since, fresh).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			r := result{attempted: true}
			if err := rows.Scan(&r.Symbol, &r.Price, &r.ObservedAt, &r.Code, &r.Provider); err != nil {
				return err
			}
			if w := open[r.Symbol]; w != nil {
				delete(open, r.Symbol)
				a.served = append(a.served, servedWant{w, r})
			}
		}
		return rows.Err()
	})
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return acquired{}, fmt.Errorf("acquire series: %w", err)
	}
	for _, w := range wants {
		if open[w.symbol] != nil {
			a.busy = append(a.busy, w)
		}
	}
	return a, nil
}

func queueFetched(batch *pgx.Batch, token uuid.UUID, provider string, wants []*want) {
	wants = inOrder(wants)
	var symbols []string
	var began, planned []time.Time
	var prices, codes, by []*string
	var observed []*time.Time
	for _, w := range wants {
		symbols, began, planned = append(symbols, string(w.symbol)), append(began, w.began), append(planned, w.planned)
		prices, observed = append(prices, w.got.priceText()), append(observed, w.got.ObservedAt)
		codes, by = append(codes, w.got.Code), append(by, w.got.Provider)
	}
	batch.Queue(`
		update polling_series s
		set attempted_at = f.began, planned = f.planned, price = f.price::numeric, observed_at = f.observed_at, code = f.code,
		    answered_by = f.provider, lease_token = null, lease_expires_at = null
		from unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::timestamptz[], $8::text[], $9::text[])
			as f (symbol, began, planned, price, observed_at, code, provider)
		where s.provider = $1 and s.symbol = f.symbol and s.lease_token = $2::uuid`,
		provider, token.String(), symbols, began, planned, prices, observed, codes, by)
}

func queueUnasked(batch *pgx.Batch, token uuid.UUID, provider string, wants []*want) {
	var symbols []string
	for _, w := range inOrder(wants) {
		symbols = append(symbols, string(w.symbol))
	}
	batch.Queue(`
		update polling_series
		set lease_token = null, lease_expires_at = null
		where provider = $1 and symbol = any($2::text[]) and lease_token = $3::uuid`, provider, symbols, token.String())
}

func inOrder(wants []*want) []*want {
	return slices.SortedFunc(slices.Values(wants), func(a, b *want) int { return strings.Compare(string(a.symbol), string(b.symbol)) })
}

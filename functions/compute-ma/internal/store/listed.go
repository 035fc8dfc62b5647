package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/postgres"
)

// The series after a key, in the order of the primary key. A series is adjusting as in [Reader.Adjusting], for the range of its longest
// stored average.
const selectSeries = `
	select s.symbol, s.provider, exists (
		select from bar_series b
		where b.symbol = s.symbol and b.provider = s.provider and b.since is not null and (b.adjusting or exists (
			select from price_points p
			where p.symbol = s.symbol and p.provider = s.provider and p.raw_response_id < b.since
				and p.observed_at between (select min(o) from unnest(s.oldest) o) and s.as_of))),
		s.xmin::text, s.newest, s.windows, s.averages, s.oldest, s.points, s.as_of
	from price_series s
	where (s.symbol, s.provider) > ($1, $2) and s.windows is not null
	order by s.symbol, s.provider
	limit $3`

// Listed is the state of a series in a list.
type Listed struct {
	series.State
	Adjusting bool // see [Reader.Adjusting]
}

// Series reads the states of the series after a key, by symbol and provider, at most limit. Series without a point are left out. last is
// the last series that was looked at, which may be one of those; more says whether there are series after it. Errors are faults.
func (s *Reader) Series(ctx context.Context, after series.Key, limit int) (all []Listed, last series.Key, more bool, err error) {
	all, last, more, err = s.series(ctx, after, limit)
	return all, last, more, postgres.Classify(err)
}

func (s *Reader) series(ctx context.Context, after series.Key, limit int) (all []Listed, last series.Key, more bool, err error) {
	rows, err := indexed(s.pool).Query(ctx, selectSeries, after.Symbol, after.Provider, limit+1)
	if err != nil {
		return nil, last, false, fmt.Errorf("read series: %w", err)
	}
	var states []series.State
	adjusting := map[series.Key]bool{}
	var k series.Key
	var isAdjusting bool
	var r stateRow
	_, err = pgx.ForEachRow(rows, append([]any{&k.Symbol, &k.Provider, &isAdjusting}, r.columns()...), func() error {
		states, adjusting[k] = append(states, r.state(k)), isAdjusting
		return nil
	})
	if err != nil {
		return nil, last, false, fmt.Errorf("read series: %w", err)
	}
	if more = len(states) > limit; more {
		states = states[:limit]
	}
	if len(states) > 0 {
		last = states[len(states)-1].Key
	}
	if states, err = s.priced(ctx, states); err != nil {
		return nil, last, false, err
	}
	for _, state := range states {
		all = append(all, Listed{state, adjusting[state.Key]})
	}
	return all, last, more, nil
}

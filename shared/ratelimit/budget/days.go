package budget

import (
	"context"
	"fmt"
	"time"

	"marketdata/shared/postgres"
)

// pgDays owns the table provider_day_counts: one row per provider and UTC day.
type pgDays struct{ pool postgres.DB }

func (d *pgDays) today(ctx context.Context, provider string) (calls int, left time.Duration, err error) {
	const q = `
		select coalesce((select calls from provider_day_counts where provider = $1 and day = utc::date), 0),
		       extract(epoch from date_trunc('day', utc) + interval '1 day' - utc)::float8
		from (values (now() at time zone 'UTC')) as clock (utc)`
	var seconds float64
	if err := d.pool.QueryRow(ctx, q, provider).Scan(&calls, &seconds); err != nil {
		return 0, 0, postgres.Classify(fmt.Errorf("read day count: %w", err))
	}
	return calls, time.Duration(seconds * float64(time.Second)), nil
}

// count is one statement, so that of two concurrent calls the second sees the count of the first.
func (d *pgDays) count(ctx context.Context, provider string, limit int) (counted bool, err error) {
	const q = `
		insert into provider_day_counts as c (provider, day, calls)
		values ($1, (now() at time zone 'UTC')::date, 1)
		on conflict on constraint provider_day_counts_pk do update
		set calls = c.calls + 1
		where c.calls < $2`
	tag, err := d.pool.Exec(ctx, q, provider, limit)
	if err != nil {
		return false, postgres.Classify(fmt.Errorf("count call: %w", err))
	}
	return tag.RowsAffected() == 1, nil
}

var _ dayCounts = (*pgDays)(nil)

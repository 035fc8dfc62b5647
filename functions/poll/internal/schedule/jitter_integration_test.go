//go:build integration

package schedule_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// PingSource delays each tick by 0 to 499 ms. Whatever the delays, and wherever the periods of a job of 5 s begin between two ticks, each
// period runs once, and none runs early. The test moves time by making what is stored older, to the microsecond.
func TestJitterLosesNoPeriod(t *testing.T) {
	t.Parallel()
	for name, delays := range map[string][]time.Duration{ // milliseconds, of one tick after the other
		"late and early": {0, 499, 0, 499, 0},
		"early and late": {499, 0, 499, 0, 499},
		"drifting":       {0, 120, 240, 360, 499},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			// Jobs were created 10 s before the first tick, and up to 5 s before that: a phase for every 25 ms, and those on the edges.
			b.Exec(t, `
				insert into polling_jobs (id, symbols, provider, interval_s, created_at, next_run_at)
				select 'poll_' || md5(i::text), array['S' || i], 'yfinance', 5, now(), now() from generate_series(0, 199) i`)
			b.Exec(t, `create table phases as select id, substr(symbols[1], 2)::int * interval '25 milliseconds' as phase from polling_jobs`)
			b.Exec(t, `create table all_runs (job_id text, k numeric, late interval)`)
			first := true
			for i, delay := range delays {
				at := 10*time.Second + time.Duration(i)*5*time.Second + delay*time.Millisecond
				b.moveTo(t, at, first)
				first = false
				require.NoError(t, b.tick.Run(t.Context()))
				b.Exec(t, `
					insert into all_runs
					select job_id, extract(epoch from scheduled_at - created_at) / 5, finished_at - scheduled_at
					from polling_runs join polling_jobs on id = job_id`)
				b.Exec(t, "delete from polling_runs")
			}
			require.Zero(t, b.Count(t, "select count(*) from all_runs where k <> round(k)"))
			require.Zero(t, b.Count(t, "select count(*) from (select from all_runs group by job_id, k having count(*) > 1) twice"))
			require.Zero(t, b.Count(t, "select count(*) from all_runs where late < interval '0'"), "early")
			require.Zero(t, b.Count(t, "select count(*) from (select from all_runs group by job_id having max(k) - min(k) + 1 <> count(*)) gaps"), "a period was lost")
			require.Zero(t, b.Count(t, "select count(*) from (select from all_runs group by job_id having count(*) < 5) few"))
			for i := range 200 {
				runs := b.Count(t, "select count(*) from all_runs where job_id = 'poll_' || md5($1)", fmt.Sprint(i))
				calls := b.ingest.Calls[fmt.Sprint("yfinance S", i)]
				require.LessOrEqual(t, calls, runs)
				require.GreaterOrEqual(t, calls, runs-1, "a fetch serves two periods only where one begins between claim and fetch")
			}
		})
	}
}

// moveTo makes now the time at after the jobs' common origin; a job was created its phase before that.
func (b bundle) moveTo(t *testing.T, at time.Duration, first bool) {
	t.Helper()
	if first { // the next run is the first period after the tick before this one
		b.Exec(t, `
			update polling_jobs j
			set created_at = now() - $1::interval - phase,
			    next_run_at = now() - $1::interval - phase + ceil(extract(epoch from phase + interval '5 seconds') / 5) * interval '5 seconds'
			from phases p where p.id = j.id`, at)
		return
	}
	b.Exec(t, `
		with older as (
			update polling_jobs j
			set created_at = now() - $1::interval - phase, next_run_at = next_run_at + (now() - $1::interval - phase - created_at)
			from phases p where p.id = j.id
			returning j.symbols[1] as symbol, now() - $1::interval - phase as created)
		update polling_series s
		set planned = planned + (created - was), attempted_at = attempted_at + (created - was)
		from older join (select symbols[1] as symbol, created_at as was from polling_jobs) w using (symbol)
		where s.symbol = older.symbol`, at)
}

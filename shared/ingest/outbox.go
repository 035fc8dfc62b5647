package ingest

import (
	"context"
	"fmt"
	"sort"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

type outboxRow struct {
	ID       int64
	Topic    string
	Key      []byte
	Value    []byte
	Headers  map[string]string
	Attempts int
}

const (
	sweepBudget = 15 * time.Second // one sweep
	sweepWait   = 5 * time.Second  // for the acknowledgement of one row
	sweepLease  = 15 * time.Second // how long a sweeper has a row to itself: longer than its wait and its statements
)

// Sweep publishes the outbox rows that are due, at most width at a time, until none is left or its time is up, and
// returns how many the broker acknowledged. Several sweepers at once take different rows (SKIP LOCKED and a lease, so
// that no transaction stays open while the broker is asked). A row that fails is tried again after a back-off of its own
// (see [backoff]), for ever; no other row waits for it, since a row that hangs takes up one of width places. A crash
// between acknowledgement and delete publishes a row again.
func (in *Ingester) Sweep(ctx context.Context, width int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepBudget)
	defer cancel()
	places := make(chan struct{}, width) // one for each row in flight
	var acknowledged, away atomic.Int64
	// A broker that acknowledged none of so many is away: more rows would only be put off for nothing.
	for acknowledged.Load() > 0 || away.Load() < int64(width) {
		free := take(ctx, places)
		if free == 0 {
			break
		}
		due, err := in.claim(ctx, free)
		for range free - len(due) {
			<-places
		}
		if err != nil && ctx.Err() == nil {
			fill(places)
			return int(acknowledged.Load()), err
		}
		if len(due) == 0 {
			break
		}
		for _, row := range due {
			go func() {
				defer func() { <-places }()
				switch err := in.sweepRow(ctx, row); {
				case err == nil:
					acknowledged.Add(1)
				case !fault.Permanent(err):
					away.Add(1)
				}
			}()
		}
	}
	fill(places) // waits for the rows in flight: each ends by itself
	in.settle(context.WithoutCancel(ctx))
	return int(acknowledged.Load()), in.measure(context.WithoutCancel(ctx))
}

// take waits for a place, then takes all that are free; 0 if ctx ends first.
func take(ctx context.Context, places chan struct{}) int {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case places <- struct{}{}:
		default:
			return n
		}
	}
}

// fill takes every place, and so waits until none is in use.
func fill(places chan struct{}) {
	for range cap(places) {
		places <- struct{}{}
	}
}

const claimQuery = `
	update outbox
	set attempts = attempts + 1, next_attempt_at = now() + $2::interval
	where id in (
		select id from outbox where next_attempt_at <= now() order by next_attempt_at, id limit $1 for update skip locked)
	returning id, topic, key, value, headers, attempts`

// claim takes rows that are due, those that have waited longest first.
func (in *Ingester) claim(ctx context.Context, limit int) ([]outboxRow, error) {
	rows, err := in.pool.Query(ctx, claimQuery, limit, sweepLease)
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim outbox rows: %w", err))
	}
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outboxRow])
	if err != nil {
		return nil, postgres.Classify(fmt.Errorf("claim outbox rows: %w", err))
	}
	return due, nil
}

// sweepRow publishes one claimed row. After an error it is put off; if even that fails, it comes again after the lease.
func (in *Ingester) sweepRow(ctx context.Context, row outboxRow) error {
	err := in.produce(ctx, sweepWait, kafkaclient.Record{
		Topic: row.Topic, Key: row.Key, Value: row.Value, Headers: sortedHeaders(row.Headers),
	})
	if err == nil {
		in.forget(ctx, row.ID)
		return nil
	}
	wait := backoff(row.Attempts, fault.Permanent(err))
	in.log.WarnContext(ctx, "could not publish outbox row", "outbox_id", row.ID, "attempts", row.Attempts, "wait_ms", wait.Milliseconds(), "err", err)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWait)
	defer cancel()
	if _, err := in.pool.Exec(bounded, "update outbox set next_attempt_at = now() + $2::interval where id = $1", row.ID, wait); err != nil {
		in.log.WarnContext(ctx, "could not reschedule outbox row", "outbox_id", row.ID, "err", err)
	}
	return err
}

// backoff is 2^attempts seconds: 2, 4, 8, … Trouble that may pass waits at most 30 s, so that a broker that is back is
// not left waiting; a row that the broker refuses as it is waits up to 5 minutes.
func backoff(attempts int, refused bool) time.Duration {
	longest := 30 * time.Second
	if refused {
		longest = 5 * time.Minute
	}
	return min(time.Second<<min(attempts, 9), longest)
}

const measureQuery = `
	select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float8
	from (select created_at from outbox order by id limit 10000) oldest`

// measure sets the gauges of the outbox from its oldest rows, which its primary key serves in order.
func (in *Ingester) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	var rows int64
	var seconds float64
	err := pgx.BeginFunc(ctx, in.pool, func(tx pgx.Tx) error {
		// A table that was never analysed would be read whole and sorted.
		if _, err := tx.Exec(ctx, postgres.ByIndex(storeWait)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, measureQuery).Scan(&rows, &seconds)
	})
	if err != nil {
		return postgres.Classify(fmt.Errorf("measure outbox: %w", err))
	}
	in.swept(rows, seconds)
	return nil
}

func headerMap(headers []kafkaclient.Header) map[string]string {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		m[h.Name] = string(h.Value)
	}
	return m
}

func sortedHeaders(m map[string]string) []kafkaclient.Header {
	out := make([]kafkaclient.Header, 0, len(m))
	for name, value := range m {
		out = append(out, kafkaclient.Header{Name: name, Value: []byte(value)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

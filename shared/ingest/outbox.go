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
	"marketdata/shared/trace"
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
	sweepLease  = 15 * time.Second // how long a claimed row is hidden from other sweeps: longer than sweepWait and the statements
)

// Sweep publishes the outbox rows that are due, at most width at a time, until none is left or its time is up. It returns how many
// the broker acknowledged. Concurrent sweeps claim different rows: SKIP LOCKED and a lease, so that no transaction stays open while
// the broker works. A row that fails is retried indefinitely, after a back-off of its own (see [backoff]). It does not block other
// rows: a row that hangs occupies one of width slots. A crash between acknowledgement and delete publishes a row again.
func (in *Ingester) Sweep(ctx context.Context, width int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepBudget)
	defer cancel()
	slots := make(chan struct{}, width) // one for each row in flight
	var acknowledged, failed atomic.Int64
	// A broker that acknowledged none of width rows is unavailable: trying more rows would only delay them by their back-off.
	for acknowledged.Load() > 0 || failed.Load() < int64(width) {
		free := take(ctx, slots)
		if free == 0 {
			break
		}
		due, err := in.claim(ctx, free)
		for range free - len(due) {
			<-slots
		}
		if err != nil && ctx.Err() == nil {
			fill(slots)
			return int(acknowledged.Load()), err
		}
		if len(due) == 0 {
			break
		}
		for _, row := range due {
			go func() {
				defer func() { <-slots }()
				switch err := in.sweepRow(ctx, row); {
				case err == nil:
					acknowledged.Add(1)
				case !fault.Permanent(err):
					failed.Add(1)
				}
			}()
		}
	}
	fill(slots) // waits for the rows in flight
	in.settle(context.WithoutCancel(ctx))
	return int(acknowledged.Load()), in.measure(context.WithoutCancel(ctx))
}

// take waits for a free slot, then takes all free slots and returns their number; 0 if ctx ends first.
func take(ctx context.Context, slots chan struct{}) int {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
}

// fill takes every slot, which waits until none is in use.
func fill(slots chan struct{}) {
	for range cap(slots) {
		slots <- struct{}{}
	}
}

// An array is made once. A subquery in IN may be executed again for each row, and then claims more rows than the limit.
const claimQuery = `
	update outbox
	set attempts = attempts + 1, next_attempt_at = now() + $2::interval
	where id = any (array(
		select id from outbox where next_attempt_at <= now() order by next_attempt_at, id limit $1 for update skip locked))
	returning id, topic, key, value, headers, attempts`

// claim leases rows that are due, the longest due first.
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

// sweepRow publishes one claimed row. After an error it reschedules the row; if that fails too, the row is due when its lease ends.
func (in *Ingester) sweepRow(ctx context.Context, row outboxRow) (err error) {
	ctx, span := trace.Continue(ctx, row.Headers["traceparent"], trace.Internal, "sweep", row.Topic)
	defer func() { span.End(err) }()
	err = in.produce(ctx, sweepWait, kafkaclient.Record{
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

// backoff returns 2^attempts seconds: 2, 4, 8, … It is at most 30 s after a transient error, so that rows do not wait long for a
// broker that is back, and at most 5 minutes for a row that the broker refuses.
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

// measure sets the outbox gauges from the oldest rows, which it reads in order of the primary key.
func (in *Ingester) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	var rows int64
	var seconds float64
	err := pgx.BeginFunc(ctx, in.pool, func(tx pgx.Tx) error {
		// If the table was never analyzed, the planner would read and sort all of it.
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

package ingest

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"

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

// sweepLease is how long a sweeper has a row to itself: longer than one produce call can take.
const sweepLease = 40 * time.Second

// Sweep publishes up to limit outbox rows that are due and returns how many the broker acknowledged. Several sweepers at
// once take different rows (SKIP LOCKED and a lease, so that no transaction stays open while the broker is asked). A
// row that fails is tried again after a back-off of its own, 2^attempts seconds up to 5 minutes, for ever; no other row
// waits for it. A crash between acknowledgement and delete publishes a row again.
func (in *Ingester) Sweep(ctx context.Context, limit int) (int, error) {
	const claim = `
		update outbox
		set attempts = attempts + 1, next_attempt_at = now() + $2::interval
		where id in (
			select id from outbox where next_attempt_at <= now() order by next_attempt_at, id limit $1 for update skip locked)
		returning id, topic, key, value, headers, attempts`
	rows, err := in.pool.Query(ctx, claim, limit, sweepLease)
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("claim outbox rows: %w", err))
	}
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outboxRow])
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("claim outbox rows: %w", err))
	}
	sort.Slice(due, func(i, j int) bool { return due[i].ID < due[j].ID })
	published := 0
	for _, row := range due {
		ok, err := in.sweepRow(ctx, row)
		if err != nil {
			return published, err
		}
		if ok {
			published++
		}
	}
	return published, nil
}

func (in *Ingester) sweepRow(ctx context.Context, row outboxRow) (bool, error) {
	produce, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := in.publisher.Produce(produce, kafkaclient.Record{
		Topic: row.Topic, Key: row.Key, Value: row.Value, Headers: sortedHeaders(row.Headers),
	})
	if err != nil {
		in.log.WarnContext(ctx, "outbox row is not published", "outbox_id", row.ID, "attempts", row.Attempts, "err", err)
		wait := min(time.Second<<min(row.Attempts, 9), 5*time.Minute)
		if _, err := in.pool.Exec(ctx, "update outbox set next_attempt_at = now() + $2::interval where id = $1", row.ID, wait); err != nil {
			return false, postgres.Classify(fmt.Errorf("put off outbox row: %w", err))
		}
		return false, nil
	}
	if _, err := in.pool.Exec(ctx, "delete from outbox where id = $1", row.ID); err != nil {
		return true, postgres.Classify(fmt.Errorf("delete outbox row: %w", err))
	}
	return true, nil
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

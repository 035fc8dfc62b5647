package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/shared/coalesce"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/trace"
)

// Options of the shared transactions. Half the cost of a small transaction is fixed (plan, commit, sync), so under load they
// begin at intervals. A fetch takes many times as long as such an interval, and no caller waits for a delete.
var (
	storesTogether = coalesce.Options{
		MaxBatch: 100, MaxQueue: 10_000, Timeout: storeWait, Every: 5 * time.Millisecond,
		Split: func(err error) bool { // a single item may have failed the whole batch
			class := postgres.Class(err)
			return class == "21" || class == "22" || class == "23"
		},
	}
	deletesTogether = coalesce.Options{MaxBatch: 1000, MaxQueue: 10_000, Timeout: storeWait, Every: 20 * time.Millisecond}
)

// alone is the size in bytes above which a response gets a transaction of its own: a batch of large responses would be in memory
// several times.
const alone = 64 << 10

// stored is what one fetch stores.
type stored struct {
	observation priceevent.Observation
	response    market.Response
	record      kafkaclient.Record
	span        trace.Span // of the fetch
}

// store writes raw response and outbox row in one transaction, and returns the outbox row's id. The row is due for a sweep after
// ten seconds: until then, this process publishes it.
func (in *Ingester) store(ctx context.Context, s stored) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	if len(s.response.Body) > alone {
		ids, err := in.storeAll(ctx, []stored{s})
		if err != nil {
			return 0, storageError(err)
		}
		return ids[0], nil
	}
	id, err := in.stores.Do(ctx, s)
	if err != nil {
		return 0, storageError(err)
	}
	return id, nil
}

// storeQuery is one statement, hence one transaction and one round trip. Its result rows are matched to the items by event id.
const storeQuery = `
	with raw as (
		insert into raw_responses (id, provider, symbol, status, body, received_at)
		select * from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bytea[], $6::timestamptz[]))
	insert into outbox (topic, key, value, headers, next_attempt_at)
	select topic, key, value, headers::jsonb, now() + interval '10 seconds'
	from unnest($7::text[], $8::bytea[], $9::bytea[], $10::text[]) as o (topic, key, value, headers)
	returning id, headers->>'ce_id'`

func (in *Ingester) storeAll(ctx context.Context, items []stored) (rowIDs []int64, err error) {
	ctx, span := trace.StartBatch(ctx, "store quotes", items, func(s *stored) trace.Span { return s.span })
	defer func() { span.End(err) }()
	n := len(items)
	ids, providers, symbols, statuses := make([]string, n), make([]string, n), make([]string, n), make([]int32, n)
	bodies, received := make([][]byte, n), make([]time.Time, n)
	topics, keys, values, headers := make([]string, n), make([][]byte, n), make([][]byte, n), make([]string, n)
	index := make(map[string]int, n) // by event id
	for i, s := range items {
		named := headerMap(s.record.Headers)
		text, err := json.Marshal(named)
		if err != nil {
			return nil, fmt.Errorf("encode headers: %w", err)
		}
		ids[i], providers[i], symbols[i] = s.observation.RawResponseID.String(), s.observation.Provider, string(s.observation.Symbol)
		statuses[i], bodies[i], received[i] = int32(s.response.Status), s.response.Body, s.response.ReceivedAt //nolint:gosec // an HTTP status
		topics[i], keys[i], values[i], headers[i] = s.record.Topic, s.record.Key, s.record.Value, string(text)
		index[named["ce_id"]] = i
	}
	rows, err := in.pool.Query(ctx, storeQuery, ids, providers, symbols, statuses, bodies, received, topics, keys, values, headers)
	if err != nil {
		return nil, fmt.Errorf("store quotes: %w", err)
	}
	var (
		out     = make([]int64, n)
		id      int64
		eventID string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &eventID}, func() error { out[index[eventID]] = id; return nil }); err != nil {
		return nil, fmt.Errorf("store quotes: %w", err)
	}
	return out, nil
}

// lazily prepares a transaction for deletes. They do not wait for the disk: a delete that is lost in a crash of the database only
// publishes an event once more. They use the index: if the table was empty when last analyzed, the planner would choose a
// sequential scan over all rows deleted since, once for each batch.
var lazily = postgres.ByIndex(storeWait) + ", set_config('synchronous_commit', 'off', true)"

const deleteQuery = `delete from outbox where id = any($1)`

func (in *Ingester) deleteAll(ctx context.Context, ids []int64) ([]struct{}, error) {
	var transaction pgx.Batch // a batch is one transaction
	transaction.Queue(lazily)
	transaction.Queue(deleteQuery, ids)
	if err := in.pool.SendBatch(ctx, &transaction).Close(); err != nil {
		in.log.WarnContext(ctx, "could not delete published events from the outbox", "rows", len(ids), "err", err)
	}
	return make([]struct{}, len(ids)), nil
}

// forget deletes the row of an acknowledged event in the background. If that fails, a sweep publishes the event again, and
// consumers ignore the duplicate.
func (in *Ingester) forget(ctx context.Context, rowID int64) {
	if err := in.deletes.Add(rowID); err != nil {
		in.log.WarnContext(ctx, "could not delete published event from the outbox", "outbox_id", rowID, "err", err)
	}
}

// settle waits until all forgotten rows are deleted. Deletes run in order, and no row has the id 0.
func (in *Ingester) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	if _, err := in.deletes.Do(ctx, 0); err != nil {
		in.log.WarnContext(ctx, "could not wait for deletes from the outbox", "err", err)
	}
}

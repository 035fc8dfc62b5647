package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// facts are what the tables and the topics have at one time.
type facts struct {
	now       time.Time
	events    []*kgo.Record
	letters   []*kgo.Record // of the topic of dead letters
	points    map[pointKey]point
	averages  map[average]averageRow
	inspected []letterRow
	responses []responseRow       // of quotes
	results   []pricedRow         // of jobs
	ids       map[string][]string // of what clients can create, by table
	jobs      []jobRow
	left      map[string]int // work that is left, by what it is
}

type average struct {
	symbol, provider string
	window           int
}

// averageRow has times in microseconds since 1970.
type averageRow struct {
	text         string
	used         int
	complete     bool
	asOf, oldest int64
}

// letterRow is a letter of the inspector; record holds place, key and value.
type letterRow struct {
	record                        kgo.Record
	status, headers, code, reason string
	exact                         bool
}

type responseRow struct {
	id               uuid.UUID
	provider, symbol string
}

type pricedRow struct {
	pointKey
	price string
}

type jobRow struct {
	id, status                 string
	counted, recorded, between int // runs: by the job itself, in the table, and those of the table that are of no period
	next                       time.Time
}

// read reads the tables in one snapshot, and then the topics, which may be ahead of them.
func (f *facts) read(ctx context.Context, s *system) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	f.now = time.Now()
	conn, err := s.postgres.connect(ctx, s.postgres.url())
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // only read
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return f.readTables(ctx, tx) })
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	if f.events, err = readTopic(ctx, s.broker, eventsTopic); err != nil {
		return err
	}
	f.letters, err = readTopic(ctx, s.broker, lettersTopic)
	return err
}

// query calls f for each row, whose columns are in fields.
func query(ctx context.Context, tx pgx.Tx, text string, fields []any, f func() error) error {
	rows, err := tx.Query(ctx, text)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, fields, f)
	return err
}

const microseconds = `(extract(epoch from %s) * 1000000)::bigint`

func (f *facts) readTables(ctx context.Context, tx pgx.Tx) error {
	observed := fmt.Sprintf(microseconds, "observed_at")
	f.points, f.averages, f.ids, f.left = map[pointKey]point{}, map[average]averageRow{}, map[string][]string{}, map[string]int{}
	f.inspected, f.responses, f.results, f.jobs = nil, nil, nil, nil
	var k pointKey
	var p point
	var id string
	err := query(ctx, tx, "select symbol, provider, "+observed+", price::text, raw_response_id::text, correction from price_points",
		[]any{&k.symbol, &k.provider, &k.at, &p.text, &id, &p.correction}, func() (err error) {
			p.price = number(p.text).rat()
			p.id, err = uuid.Parse(id)
			f.points[k] = p
			return err
		})
	if err != nil {
		return err
	}
	var a average
	var r averageRow
	err = query(ctx, tx, fmt.Sprintf("select symbol, provider, window_size, average::text, points_used, complete, %s, %s from symbol_averages",
		fmt.Sprintf(microseconds, "as_of"), fmt.Sprintf(microseconds, "oldest")),
		[]any{&a.symbol, &a.provider, &a.window, &r.text, &r.used, &r.complete, &r.asOf, &r.oldest}, func() error { f.averages[a] = r; return nil })
	if err != nil {
		return err
	}
	var l letterRow
	err = query(ctx, tx, `
		select coalesce(topic, ''), coalesce(partition, -1), coalesce(record_offset, -1), status, exact, key, value, headers::text, code, reason
		from dead_letters`,
		[]any{&l.record.Topic, &l.record.Partition, &l.record.Offset, &l.status, &l.exact, &l.record.Key, &l.record.Value, &l.headers, &l.code, &l.reason},
		func() error { f.inspected = append(f.inspected, l); return nil })
	if err != nil {
		return err
	}
	var raw responseRow
	err = query(ctx, tx, "select id::text, provider, symbol from raw_responses where provider !~ '-'", []any{&id, &raw.provider, &raw.symbol}, func() (err error) {
		raw.id, err = uuid.Parse(id)
		f.responses = append(f.responses, raw)
		return err
	})
	if err != nil {
		return err
	}
	return f.readJobs(ctx, tx, observed)
}

func (f *facts) readJobs(ctx context.Context, tx pgx.Tx, observed string) error {
	var priced pricedRow
	err := query(ctx, tx, `
		select r.symbol, coalesce(r.provider, j.provider), `+observed+`, price::text
		from polling_results r join polling_jobs j on j.id = r.job_id
		where price is not null`,
		[]any{&priced.symbol, &priced.provider, &priced.at, &priced.price}, func() error { f.results = append(f.results, priced); return nil })
	if err != nil {
		return err
	}
	var j jobRow
	err = query(ctx, tx, `
		select j.id, j.status, j.runs, count(r.job_id), j.next_run_at,
			count(*) filter (where extract(epoch from r.scheduled_at - j.created_at) % j.interval_s <> 0)
		from polling_jobs j left join polling_runs r on r.job_id = j.id group by j.id`,
		[]any{&j.id, &j.status, &j.counted, &j.recorded, &j.next, &j.between}, func() error { f.jobs = append(f.jobs, j); return nil })
	if err != nil {
		return err
	}
	var id string
	for _, table := range []string{"polling_jobs", "backfills", "dead_letter_replays"} {
		if err := query(ctx, tx, "select id::text from "+table, []any{&id}, func() error { f.ids[table] = append(f.ids[table], id); return nil }); err != nil {
			return err
		}
	}
	for what, text := range map[string]string{
		"events that are not published":            "select count(*)::int from outbox where created_at < now() - interval '30 seconds'",
		"replays that run":                         "select count(*)::int from dead_letter_replays where status = 'running'",
		"letters that are owed a replay's outcome": "select count(*)::int from dead_letters where status = 'replaying' or replay_id is not null",
	} {
		var n int
		if err := query(ctx, tx, text, []any{&n}, func() error { f.left[what] = n; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// readTopic returns all records that a topic has now.
func readTopic(ctx context.Context, broker, topic string) (all []*kgo.Record, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	defer client.Close()
	ends, err := endsOf(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	missing := int64(0)
	for _, end := range ends {
		missing += end
	}
	for missing > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < ends[r.Partition] {
				all = append(all, r)
				missing--
			}
		})
	}
	return all, nil
}

// endsOf returns the ends of the partitions. Nothing is ever removed from them.
func endsOf(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Topics = append(metadata.Topics, asked)
	known, err := metadata.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	wanted := kmsg.NewListOffsetsRequestTopic()
	wanted.Topic = topic
	for _, t := range known.Topics {
		for _, p := range t.Partitions {
			one := kmsg.NewListOffsetsRequestTopicPartition()
			one.Partition, one.Timestamp = p.Partition, -1 // the end
			wanted.Partitions = append(wanted.Partitions, one)
		}
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID = -1
	list.Topics = append(list.Topics, wanted)
	found, err := list.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	ends := map[int32]int64{}
	for _, t := range found.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("read %s: error %d", topic, p.ErrorCode)
			}
			ends[p.Partition] = p.Offset
		}
	}
	if len(ends) == 0 {
		return nil, fmt.Errorf("read %s: it has no partitions", topic)
	}
	return ends, nil
}
